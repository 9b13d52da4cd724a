// Signals during a launch: a touched guard page and its like become an error message.
#include "engine.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>
#include <ucontext.h>

#include <cstdio>

namespace cuda_host {
namespace {

constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGVTALRM};
constexpr int COUNT = sizeof SIGNALS / sizeof *SIGNALS;

struct sigaction before[COUNT];
sigjmp_buf way_out;
pthread_t launcher;
alignas(16) unsigned char signal_stack[64 * 1024];

int caught;
void* fault_address;
bool has_address, is_write;
uint64_t counter;

void handle(int number, siginfo_t* info, void* context) {
    if (!pthread_equal(pthread_self(), launcher)) {
        // Not ours: whoever handled it before does so when the instruction is tried again.
        for (int i = 0; i < COUNT; ++i) {
            if (SIGNALS[i] == number) sigaction(number, &before[i], nullptr);
        }
        return;
    }
    caught = number;
    fault_address = info->si_addr;
    has_address = info->si_code > 0 && info->si_code != SI_KERNEL;
#if defined(__x86_64__)
    const auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    counter = static_cast<uint64_t>(registers[REG_RIP]);
    is_write = registers[REG_ERR] & 2;
#endif
    siglongjmp(way_out, 1);
}

std::string of_memory() {
    if (!has_address) return "touches memory by a misaligned vector or an address that cannot be";
    char address[32];
    snprintf(address, sizeof address, " (%p)", fault_address);
    std::string what;
    if (in_stack_guard(fault_address)) {
        what = "its stack, which is too small for its variables";
    } else if (beside_shared(fault_address)) {
        what = "memory outside the block's shared memory";
    } else if (!describe(fault_address, what)) {
        what = "an unknown address";
    }
    return (is_write ? "writes " : "reads ") + what + address;
}

std::string reason_of(int number) {
    switch (number) {
        case SIGILL: return "index outside an array of fixed size, or a misaligned vector";
        case SIGFPE: return "integer division by 0";
        case SIGVTALRM: return "does not end: the launch took longer than it may";
        default: return of_memory();
    }
}

void set_timer(double seconds) {
    itimerval timer{};
    timer.it_value.tv_sec = static_cast<time_t>(seconds);
    timer.it_value.tv_usec = static_cast<suseconds_t>((seconds - timer.it_value.tv_sec) * 1e6);
    setitimer(ITIMER_VIRTUAL, &timer, nullptr);
}

}  // namespace

bool guarded(void (*body)(), double seconds, std::string& reason, uint64_t& program_counter) {
    launcher = pthread_self();
    counter = 0;
    stack_t ours{}, theirs{};
    ours.ss_sp = signal_stack;
    ours.ss_size = sizeof signal_stack;
    sigaltstack(&ours, &theirs);
    struct sigaction action{};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < COUNT; ++i) sigaction(SIGNALS[i], &action, &before[i]);
    const bool stopped = sigsetjmp(way_out, 1);
    if (!stopped) {
        if (seconds > 0) set_timer(seconds);
        body();
    }
    if (seconds > 0) set_timer(0);
    for (int i = 0; i < COUNT; ++i) sigaction(SIGNALS[i], &before[i], nullptr);
    sigaltstack(&theirs, nullptr);
    if (stopped) reason = reason_of(caught);
    program_counter = counter;
    return !stopped;
}

}  // namespace cuda_host
