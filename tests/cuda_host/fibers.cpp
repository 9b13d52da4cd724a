// Fibers: a stack for each thread of the blocks that exist, and the switch from one to another.
#include "engine.h"

#include <sys/mman.h>
#include <ucontext.h>

namespace cuda_host {
namespace {

constexpr size_t STACK = 32 * PAGE;  // with a page at its lower end that cannot be touched
constexpr size_t SLAB = MAX_THREADS * STACK;
unsigned char* slabs[MAX_FIBERS / MAX_THREADS];  // each made when it is first needed

unsigned char* make_slab() {
    auto* slab = static_cast<unsigned char*>(mmap(nullptr, SLAB, PROT_READ | PROT_WRITE,
                                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                                                  0));
    for (int i = 0; i < MAX_THREADS; ++i) mprotect(slab + i * STACK, PAGE, PROT_NONE);
    return slab;
}

unsigned char* stack_of(unsigned number) {
    unsigned char*& slab = slabs[number / MAX_THREADS];
    if (!slab) slab = make_slab();
    return slab + number % MAX_THREADS * STACK;
}

}  // namespace

bool in_stack_guard(const void* p) {
    for (const unsigned char* slab : slabs) {
        const auto offset = static_cast<const unsigned char*>(p) - slab;
        if (slab && offset >= 0 && offset < static_cast<ptrdiff_t>(SLAB)) {
            return offset % STACK < PAGE;
        }
    }
    return false;
}

#if defined(__x86_64__)

// The registers that a function must keep are on the stack of who does not run.
asm(R"(
.globl cuda_host_switch
.type cuda_host_switch, @function
cuda_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size cuda_host_switch, . - cuda_host_switch
)");
extern "C" void cuda_host_switch(void** save, void* load);

void switch_stack(void** save, void* load) { cuda_host_switch(save, load); }

void* new_fiber(unsigned number, void (*body)()) {
    auto** top = reinterpret_cast<void**>(stack_of(number) + STACK);
    *--top = nullptr;  // where `body` would return to, which it does not
    *--top = reinterpret_cast<void*>(body);
    return top - 6;
}

#else

// Elsewhere by the C library, with two system calls a switch.
namespace {
ucontext_t contexts[MAX_FIBERS + 1];
}

void switch_stack(void** save, void* load) {
    // The scheduler's own context is made where it first leaves.
    if (!*save) *save = &contexts[MAX_FIBERS];
    swapcontext(static_cast<ucontext_t*>(*save), static_cast<ucontext_t*>(load));
}

void* new_fiber(unsigned number, void (*body)()) {
    ucontext_t& context = contexts[number];
    getcontext(&context);
    context.uc_stack.ss_sp = stack_of(number) + PAGE;
    context.uc_stack.ss_size = STACK - PAGE;
    makecontext(&context, body, 0);
    return &context;
}

#endif

}  // namespace cuda_host
