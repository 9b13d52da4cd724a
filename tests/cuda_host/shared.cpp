// Shared memory: the dynamic part before a page that cannot be touched, and the kernel's variables.
#include "engine.h"

#include <sys/mman.h>

namespace cuda_host {
namespace {

constexpr size_t ROOM = (MAX_SHARED + 2 * PAGE) / PAGE * PAGE;
unsigned char *room = nullptr, *start = nullptr;
size_t size = 0;
std::vector<Static> variables;

// Bytes before and after the dynamic part that are not its own.
unsigned char* front() { return start - 256; }
unsigned char* back() { return start + size; }
size_t back_bytes() { return static_cast<size_t>(room + ROOM - back()); }

bool all_canary(const unsigned char* p, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) {
        if (p[i] != CANARY) return false;
    }
    return true;
}

}  // namespace

unsigned char* dynamic_shared() { return start; }

void prepare_shared(size_t bytes, const std::vector<Static>& statics) {
    if (!room) {
        void* whole = mmap(nullptr, ROOM + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        room = static_cast<unsigned char*>(whole) + PAGE;
        mprotect(room, ROOM, PROT_READ | PROT_WRITE);
    }
    size = bytes;
    start = room + ROOM - (bytes + 127) / 128 * 128;
    variables = statics;
}

void fill_shared() {
    memset(front(), CANARY, 256);
    memset(start, GARBAGE, size);
    memset(back(), CANARY, back_bytes());
    for (const Static& variable : variables) memset(variable.start, GARBAGE, variable.size);
}

// The dynamic part and the variables, one after the other.
void save_shared(std::vector<unsigned char>& to) {
    to.assign(start, start + size);
    for (const Static& variable : variables) {
        to.insert(to.end(), variable.start, variable.start + variable.size);
    }
}

void restore_shared(const std::vector<unsigned char>& from) {
    const unsigned char* next = from.data();
    memcpy(start, next, size);
    next += size;
    for (const Static& variable : variables) {
        memcpy(variable.start, next, variable.size);
        next += variable.size;
    }
}

bool shared_was_overrun() {
    return !all_canary(front(), 256) || !all_canary(back(), back_bytes());
}

bool is_shared(const void* p, size_t bytes) {
    const auto* q = static_cast<const unsigned char*>(p);
    if (start <= q && q + bytes <= start + size) return true;
    for (const Static& variable : variables) {
        if (variable.start <= q && q + bytes <= variable.start + variable.size) return true;
    }
    return false;
}

bool beside_shared(const void* p) {
    const auto* q = static_cast<const unsigned char*>(p);
    return room && room - PAGE <= q && q < room + ROOM + PAGE;
}

}  // namespace cuda_host
