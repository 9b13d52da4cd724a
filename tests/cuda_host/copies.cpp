// Asynchronous copies: queued by a thread, and there when a wait says so, or at once.
#include "engine.h"

namespace cuda_host {
namespace {

void arrive(const Copy& copy) {
    arriving = &copy;
    if (copy.there) {
        memcpy(copy.shared, copy.global, copy.bytes);
    } else {
        memset(copy.shared, 0, copy.bytes);
    }
    arriving = nullptr;
}

}  // namespace

bool early_copies = false;
const Copy* arriving = nullptr;

void check_shared(const void* p, size_t bytes, size_t boundary, const char* what, const char* file,
                  int line) {
    if (reinterpret_cast<uintptr_t>(p) % boundary) {
        fail(file, line, "%s: shared address %p is not a multiple of %zu", what, p, boundary);
    }
    if (!is_shared(p, bytes)) {
        fail(file, line, "%s: %zu bytes from %p on are not in this block's shared memory", what,
             bytes, p);
    }
}

void queue_copy(void* shared, const void* global, unsigned bytes, bool there, const char* file,
                int line) {
    check_shared(shared, bytes, bytes, "copy_async", file, line);
    if (reinterpret_cast<uintptr_t>(global) % bytes) {
        fail(file, line, "copy_async: global address %p is not a multiple of %u", global, bytes);
    }
    if (there && is_shared(global, 1)) fail(file, line, "copy_async: the source is shared memory");
    current->copies.push_back({static_cast<unsigned char*>(shared),
                               static_cast<const unsigned char*>(global), bytes, current->group,
                               there, file, line});
    if (early_copies) arrive(current->copies.back());
}

void commit_copies() { ++current->group; }

void wait_for_copies(unsigned pending) {
    auto& copies = current->copies;
    size_t done = 0;
    // Groups of this thread arrive in turn; copies of no group yet are not waited for.
    while (done < copies.size() && copies[done].group + pending < current->group) {
        if (!early_copies) arrive(copies[done]);
        ++done;
    }
    if (done) current->shown = false;
    copies.erase(copies.begin(), copies.begin() + done);
}

void check_copies_done() {
    if (current->copies.empty()) return;
    const Copy& copy = current->copies.front();
    fail(copy.file, copy.line, "the thread ends with %zu asynchronous copies not waited for",
         current->copies.size());
}

}  // namespace cuda_host
