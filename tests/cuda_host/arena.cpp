// Global memory: every array between pages that cannot be touched, at addresses used only once.
#include "engine.h"

#include <sys/mman.h>

#include <map>

namespace cuda_host {
namespace {

constexpr size_t BESIDE = 256;  // bytes before and after an array that are checked

struct Array {
    size_t bytes;
    unsigned char *pages, *end;  // what can be touched, up to the page that cannot
    bool live;
};

unsigned char *reserved = nullptr, *next = nullptr, *limit = nullptr;
std::map<unsigned char*, Array> arrays;

bool reserve() {
    for (size_t bytes = size_t(1) << 40; bytes >= size_t(1) << 32; bytes /= 4) {
        void* place = mmap(nullptr, bytes, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (place == MAP_FAILED) continue;
        reserved = next = static_cast<unsigned char*>(place);
        limit = reserved + bytes;
        return true;
    }
    return false;
}

size_t up(size_t x, size_t step) { return (x + step - 1) / step * step; }

bool is_canary(const unsigned char* from, const unsigned char* to) {
    for (; from < to; ++from) {
        if (*from != CANARY) return false;
    }
    return true;
}

unsigned char* front_of(unsigned char* start, const Array& array) {
    return start - array.pages > static_cast<ptrdiff_t>(BESIDE) ? start - BESIDE : array.pages;
}

}  // namespace

// The array that p is in or next to, in words.
bool describe(const void* address, std::string& text) {
    auto* p = static_cast<unsigned char*>(const_cast<void*>(address));
    if (!reserved || p < reserved || p >= limit) return false;
    auto after = arrays.upper_bound(p);
    const bool first = after == arrays.begin();
    auto nearest = first ? after : std::prev(after);
    const ptrdiff_t past = first ? 0 : p - nearest->first - ptrdiff_t(nearest->second.bytes);
    if (!first && after != arrays.end() && past >= 0) {
        // Between two, a live one is more likely meant, else the nearer.
        const bool live = after->second.live, before_live = nearest->second.live;
        if (live != before_live ? live : after->first - p < past) nearest = after;
    }
    if (nearest == arrays.end()) return false;
    const auto& [start, array] = *nearest;
    const std::string of = (array.live ? "an array of " : "a freed array of ") +
                           std::to_string(array.bytes) + " bytes";
    if (p < start) {
        text = std::to_string(start - p) + " bytes before " + of;
    } else if (p >= start + array.bytes) {
        text = std::to_string(p - start - array.bytes) + " bytes past the end of " + of;
    } else {
        text = "byte " + std::to_string(p - start) + " of " + of;
    }
    return true;
}

void fill_beside(unsigned char* start, const Array& array) {
    unsigned char* front = front_of(start, array);
    memset(front, CANARY, start - front);
    memset(start + array.bytes, CANARY, array.end - start - array.bytes);
}

// Whether nothing was written beside an array; what was is told once.
bool canaries_intact(std::string& text) {
    for (const auto& [start, array] : arrays) {
        if (!array.live) continue;
        if (!is_canary(front_of(start, array), start)) text = "before the start";
        if (!is_canary(start + array.bytes, array.end)) text = "past the end";
        if (text.empty()) continue;
        text += " of an array of " + std::to_string(array.bytes) + " bytes";
        fill_beside(start, array);
        return false;
    }
    return true;
}

}  // namespace cuda_host

using namespace cuda_host;

// Memory filled with garbage whose end, rounded up to `alignment`, meets the page after it.
extern "C" void* cuda_host_allocate(size_t bytes, size_t alignment) {
    if (!reserved && !reserve()) return nullptr;
    const size_t rounded = up(bytes, alignment), usable = up(rounded ? rounded : 1, PAGE);
    if (static_cast<size_t>(limit - next) < usable + 2 * PAGE) return nullptr;
    unsigned char *pages = next + PAGE, *end = pages + usable, *start = end - rounded;
    if (mprotect(pages, usable, PROT_READ | PROT_WRITE)) return nullptr;
    next = end;
    arrays[start] = {bytes, pages, end, true};
    memset(start, GARBAGE, bytes);
    fill_beside(start, arrays[start]);
    return start;
}

extern "C" void cuda_host_release(void* p) {
    auto found = arrays.find(static_cast<unsigned char*>(p));
    if (found == arrays.end() || !found->second.live) return;
    found->second.live = false;
    const size_t usable = found->second.end - found->second.pages;
    madvise(found->second.pages, usable, MADV_DONTNEED);
    mprotect(found->second.pages, usable, PROT_NONE);
}

// How many bytes from p on belong to a live array; -1 if p is in a freed one, -2 if in none.
extern "C" long long cuda_host_extent(void* p) {
    auto* q = static_cast<unsigned char*>(p);
    auto after = arrays.upper_bound(q);
    if (after == arrays.begin()) return -2;
    const auto& [start, array] = *std::prev(after);
    if (q > start + array.bytes) return -2;
    return array.live ? static_cast<long long>(start + array.bytes - q) : -1;
}
