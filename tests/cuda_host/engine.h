// What the parts of the runtime know of each other. Kernels do not see this.
#pragma once
#include "runtime.cuh"

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace cuda_host {

constexpr int MAX_THREADS = 1024;             // of a block
constexpr int MAX_FIBERS = 16 * MAX_THREADS;  // of all blocks that exist at once
constexpr unsigned LANES = 32;
constexpr size_t PAGE = 4096, MAX_SHARED = 227 * 1024;
constexpr unsigned char GARBAGE = 0xFF;  // NaN in every type of float

// Filled into what lies next to memory and must not be written.
constexpr unsigned char CANARY = 0xA5;

enum class Mode { forward, reverse, random };
enum class State { ready, at_barrier, in_warp, ended };

struct Copy {
    unsigned char* shared;
    const unsigned char* global;
    unsigned bytes, group;
    bool there;
    const char* file;
    int line;
};

// Of a warpgroup, as one of its threads knows it; see warpgroup.cpp.
struct GroupProduct {
    float* c;
    unsigned long long a, b;
    bool across_a, across_b, of_bfloat16;
    unsigned group;
};

struct Thread {
    void* stack_pointer;
    State state;
    uint3 index;
    unsigned rank;  // in the block
    // Where it waits, and in a warp operation, with whom and with what.
    const char *what, *file;
    int line;
    Operation operation;
    unsigned mask;
    void* operand;
    bool predicate;
    // Asynchronous copies not yet waited for, and the number of the group being made.
    std::vector<Copy> copies;
    unsigned group;
    // Products not yet made, the group being started, those asked for; and whether all copies that
    // have arrived were shown to products.
    std::vector<GroupProduct> products;
    unsigned product_group, made;
    bool shown;
};

// A launch's settings, as Python passes them (run.py).
struct Settings {
    uint32_t grid[3], block[3];
    uint64_t shared;
    int32_t threads, blocks;  // Mode
    uint64_t seed;
    int32_t early_copies, cooperative;
    int32_t statics;  // how many variables in shared memory
    const uint64_t* static_offset;
    const uint64_t* static_size;
    double seconds;
};

struct Static {
    unsigned char* start;
    size_t size;
};

struct Block {
    uint3 index;
    std::vector<Thread> threads;
    unsigned ended, waiting, votes;
    unsigned* counter;  // of the grid_barrier at which all its threads wait, or null
    std::vector<unsigned char> shared;  // while other blocks run
};

// What runs: the launch, the block, its threads, and the one among them.
extern const Settings* settings;
extern void (*kernel)(void**);
extern void** arguments;
extern std::mt19937_64 chance;
extern std::string failure;
extern Block* block;
extern Thread* threads;
extern unsigned thread_count;
extern Thread* current;
extern bool early_copies;
extern const Copy* arriving;  // the copy being made, if one is

// An error unless `bytes` from p on are shared memory, aligned to `boundary`.
void check_shared(const void* p, size_t bytes, size_t boundary, const char* what, const char* file,
                  int line);
void check_copies_done();

// engine.cpp
std::string place(const uint3& index);
std::string state_of(const Thread& thread);
std::string where(const char* file, int line);
std::string current_place();
void body();       // of a fiber: the kernel
void run_block();  // until the block's threads have ended, or all of them wait for other blocks

// shared.cpp
void prepare_shared(size_t bytes, const std::vector<Static>& statics);
void fill_shared();
bool shared_was_overrun();
bool is_shared(const void* p, size_t bytes);
bool beside_shared(const void* p);
void save_shared(std::vector<unsigned char>& to);
void restore_shared(const std::vector<unsigned char>& from);

// arena.cpp
bool describe(const void* p, std::string& text);
bool canaries_intact(std::string& text);

// faults.cpp: runs `body`; false if the processor stopped it, with the reason.
bool guarded(void (*body)(), double seconds, std::string& reason, uint64_t& program_counter);

// fibers.cpp
void* new_fiber(unsigned number, void (*body)());
void switch_stack(void** save, void* load);
bool in_stack_guard(const void* p);

}  // namespace cuda_host
