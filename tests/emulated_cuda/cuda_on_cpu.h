/* cuda_on_cpu.h - runs CUDA C++ kernels on the CPU, for tests. Included by gpu.h under g++.
 *
 * Every CUDA thread of a block is a fibre with its own stack. Blocks run one after another; inside
 * a block a whole warp runs until all its lanes wait at a block barrier or have ended, then the next
 * warp does. The orders of blocks, warps and lanes are drawn from COC_SEED, so a kernel that lacks
 * a barrier gives other numbers under another seed. Caught and reported with the line in the source:
 * barriers not reached by all threads, warp operations with lanes missing, a bad launch.
 *
 * Types, prototypes and bf16/fp16 arithmetic are those of the CUDA toolkit's own headers, which
 * compile on the host; only what they leave to the device compiler is written here. The host API
 * (cudaMalloc, streams, events) comes from cudart_cpu.cpp.
 */
#pragma once
#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <sys/mman.h>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <tuple>
#include <type_traits>
#include <vector>
#if defined(__x86_64__) && !defined(COC_UCONTEXT)
#define COC_ASM 1
#else
#include <ucontext.h>
#endif

#undef __shared__
#undef __launch_bounds__
#define __shared__ static_assert(false, "gpu.h: write SHARED(type, name, [dims]) instead of __shared__");
#define __launch_bounds__(...)

/* What cudart_cpu.cpp offers to a launch. */
extern "C" cudaError_t coc_submit(cudaStream_t stream, void *job, void (*run)(void *), void (*free)(void *));
extern "C" void coc_set_error(cudaError_t error);
extern "C" uint64_t coc_random(void);
extern "C" size_t coc_smem_limit(const void *kernel);

namespace coc {

/* ---- fibres ---- */
enum State { READY, WAIT_WARP, WAIT_BLOCK, DONE };
struct Copy {
    void *dst;
    const void *src;
};
struct Fiber {
#ifdef COC_ASM
    void *sp = nullptr;
#else
    ucontext_t uc;
#endif
    uint3 tid = {0, 0, 0};
    unsigned linear = 0, mask = 0, parity = 0;
    State state = DONE;
    int line = 0;                               /* where it waits */
    const char *what = "";                      /* for what */
    alignas(16) unsigned char slot[3][32] = {}; /* what it shows to its warp */
    std::vector<std::vector<Copy>> copies{1};   /* cp.async groups not yet waited for */
};

struct Block {
    const char *kernel = "";
    dim3 grid, dim;
    uint3 idx = {0, 0, 0};
    unsigned threads = 0;
    uint64_t serial = 0; /* counts blocks run */
    std::vector<Fiber *> fiber;
    void (*body)(void *) = nullptr;
    void *args = nullptr;
    unsigned char *smem = nullptr;
#ifdef COC_ASM
    void *sched = nullptr;
#else
    ucontext_t sched;
#endif
};

inline Block *blk = nullptr; /* plain globals: cudart_cpu.cpp runs one kernel at a time, under its lock */
inline Fiber *cur = nullptr;

[[noreturn]] inline void die(const char *why) {
    fprintf(stderr, "cuda_on_cpu: kernel %s, block (%u,%u,%u): %s\n", blk->kernel, blk->idx.x, blk->idx.y,
            blk->idx.z, why);
    for (unsigned t = 0, shown = 0; t < blk->threads && shown < 8; t++) {
        Fiber *f = blk->fiber[t], *p = t ? blk->fiber[t - 1] : nullptr;
        if (p && p->state == f->state && p->line == f->line) continue;
        shown++;
        fprintf(stderr, "  from thread %u: %s, line %d\n", t,
                f->state == DONE ? "ended, last waited" : f->what, f->line);
    }
    abort();
}

#ifdef COC_ASM
/* Saves the callee-saved registers on this stack, its pointer in *save, and goes on at `to`. */
__attribute__((naked, noinline)) inline void swap_stack(void ** /*save*/, void * /*to*/) {
    asm volatile(
        "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
        "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
        "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n popq %rcx\n jmp *%rcx\n");
}
inline void to_scheduler() {
    swap_stack(&cur->sp, blk->sched);
}
inline void to_fiber(Fiber *f) {
    cur = f;
    swap_stack(&blk->sched, f->sp);
}
#else
inline void to_scheduler() {
    swapcontext(&cur->uc, &blk->sched);
}
inline void to_fiber(Fiber *f) {
    cur = f;
    swapcontext(&blk->sched, &f->uc);
}
#endif

[[noreturn]] inline void fiber_main() {
    for (;;) {
        blk->body(blk->args);
        if (cur->copies.size() > 1 || !cur->copies[0].empty()) die("cp.async never waited for");
        cur->state = DONE;
        to_scheduler();
    }
}

inline Fiber *new_fiber() {
    constexpr size_t guard = 4096, size = 128 << 10;
    static unsigned made;
    size_t shade = made++ % 61 * 64; /* else all stacks fall into the same cache sets */
    char *m = (char *)mmap(nullptr, guard + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED || mprotect(m, guard, PROT_NONE)) {
        perror("cuda_on_cpu: stack");
        abort();
    }
    Fiber *f = new Fiber;
#ifdef COC_ASM
    void **top = (void **)(m + guard + size - shade);
    *--top = nullptr; /* keeps the stack aligned as a call would */
    *--top = (void *)fiber_main;
    f->sp = top - 6; /* the registers that swap_stack pops: zero */
#else
    getcontext(&f->uc);
    f->uc.uc_stack.ss_sp = m + guard;
    f->uc.uc_stack.ss_size = size - shade;
    f->uc.uc_link = nullptr;
    makecontext(&f->uc, (void (*)())fiber_main, 0);
#endif
    return f;
}

/* ---- barriers ---- */
inline void sync_block(int line) {
    cur->state = WAIT_BLOCK;
    cur->what = "__syncthreads";
    cur->line = line;
    to_scheduler();
}

/* Returns when every lane of `mask` that the block has is here. */
inline void sync_warp(unsigned mask, const char *what, int line) {
    Fiber *me = cur;
    unsigned base = me->linear & ~31u, n = std::min(32u, blk->threads - base);
    me->state = WAIT_WARP;
    me->mask = mask;
    me->what = what;
    me->line = line;
    if (!(mask >> (me->linear & 31) & 1)) die("calling lane not in its own mask");
    for (unsigned i = 0; i < n; i++) {
        Fiber *f = blk->fiber[base + i];
        if (!(mask >> i & 1)) continue;
        if (f->state != WAIT_WARP || f->mask != mask) {
            to_scheduler();
            return;
        }
        if (f->line != line || strcmp(f->what, what)) die("lanes of one warp meet in different operations");
    }
    for (unsigned i = 0; i < n; i++)
        if (mask >> i & 1) blk->fiber[base + i]->state = READY;
}

/* Shows `mine` to the lanes of `mask`; then `read` may look at any of them. Two slots in turn are
 * enough for full-mask operations: a lane can be at most one operation ahead. For partial masks a
 * third slot is used and a second barrier closes it. */
template <class T, class F>
inline auto exchange(unsigned mask, const T &mine, const char *what, int line, F read) {
    static_assert(sizeof(T) <= 32, "too large for a warp slot");
    Fiber *me = cur;
    unsigned base = me->linear & ~31u;
    bool full = mask == 0xffffffffu;
    unsigned k = full ? (me->parity ^= 1) : 2;
    memcpy(me->slot[k], &mine, sizeof(T));
    sync_warp(mask, what, line);
    auto lane = [&](unsigned i) {
        if (!(mask >> i & 1) || base + i >= blk->threads)
            die("warp operation reads a lane that is not in the mask");
        T v;
        memcpy(&v, blk->fiber[base + i]->slot[k], sizeof(T));
        return v;
    };
    auto r = read(lane, me->linear & 31);
    if (!full) sync_warp(mask, what, line);
    return r;
}

enum { FROM, XOR, DOWN, UP };
template <class T> inline T shfl(unsigned mask, T v, int mode, int line, int arg, int width = 32) {
    return exchange(mask, v, "__shfl_sync", line, [&](auto lane, unsigned me) {
        int seg = me & ~(width - 1), pos = me & (width - 1);
        int src = mode == FROM   ? arg & (width - 1)
                  : mode == XOR  ? pos ^ arg
                  : mode == DOWN ? pos + arg
                                 : pos - arg;
        return src < 0 || src >= width ? v : (T)lane(seg + src);
    });
}

inline unsigned ballot(unsigned mask, bool p, int line) {
    return exchange(mask, (unsigned)p, "__ballot_sync", line, [&](auto lane, unsigned) {
        unsigned r = 0, n = std::min(32u, blk->threads - (cur->linear & ~31u));
        for (unsigned i = 0; i < n; i++)
            if (mask >> i & 1) r |= lane(i) << i;
        return r;
    });
}

/* ---- one block, one grid ---- */
inline unsigned coprime(unsigned n) {
    unsigned s = n > 1 ? 1 + coc_random() % n : 1;
    while (std::gcd(s, n) != 1) s++;
    return s;
}

inline void run_block() {
    Block *b = blk;
    unsigned warps = (b->threads + 31) / 32, done = 0;
    unsigned start = coc_random() % warps, step = coprime(warps);
    unsigned lane0 = coc_random() % 32, lstep = coc_random() % 16 * 2 + 1;
    for (unsigned t = 0; t < b->threads; t++) b->fiber[t]->state = READY;
    for (;;) {
        for (unsigned i = 0; i < warps; i++) {
            unsigned base = (start + i * step) % warps * 32, n = std::min(32u, b->threads - base);
            for (bool again = true; again;) {
                again = false;
                for (unsigned k = 0; k < 32; k++) {
                    unsigned l = (lane0 + k * lstep) & 31;
                    if (l >= n || b->fiber[base + l]->state != READY) continue;
                    to_fiber(b->fiber[base + l]);
                    again = true;
                    done += b->fiber[base + l]->state == DONE;
                }
            }
        }
        if (done == b->threads) return;
        int line = -1; /* a barrier waits for all threads that have not ended */
        for (unsigned t = 0; t < b->threads; t++) {
            Fiber *f = b->fiber[t];
            if (f->state == WAIT_WARP) die("a warp operation waits for lanes that never come");
            if (f->state != WAIT_BLOCK) continue;
            if (line >= 0 && f->line != line) die("threads of one block wait at different barriers");
            line = f->line;
        }
        for (unsigned t = 0; t < b->threads; t++)
            if (b->fiber[t]->state == WAIT_BLOCK) b->fiber[t]->state = READY;
    }
}

template <class... P> struct Call {
    const char *name;
    void (*kernel)(P...);
    dim3 grid, dim;
    size_t smem;
    std::tuple<P...> args;
    template <class... A>
    Call(const char *nm, void (*k)(P...), dim3 g, dim3 d, size_t s, A &&...a)
        : name(nm), kernel(k), grid(g), dim(d), smem(s), args(std::forward<A>(a)...) {}
    void run() {
        static Block *const block = new Block;
        Block *b = blk = block;
        b->kernel = name;
        b->grid = grid;
        b->dim = dim;
        b->args = this;
        b->threads = dim.x * dim.y * dim.z;
        b->body = [](void *p) {
            Call *c = (Call *)p;
            std::apply(c->kernel, c->args);
        };
        while (b->fiber.size() < b->threads) b->fiber.push_back(new_fiber());
        for (unsigned t = 0; t < b->threads; t++) {
            b->fiber[t]->linear = t;
            b->fiber[t]->tid = {t % dim.x, t / dim.x % dim.y, t / (dim.x * dim.y)};
            b->fiber[t]->parity = 0;
        }
        uint64_t n = (uint64_t)grid.x * grid.y * grid.z, at = coc_random() % n,
                 step = n >> 31 ? 1 : coprime((unsigned)n);
        b->smem = (unsigned char *)aligned_alloc(16, std::max<size_t>(16, (smem + 15) / 16 * 16));
        for (uint64_t i = 0; i < n; i++, at = (at + step) % n) {
            b->idx = {(unsigned)(at % grid.x), (unsigned)(at / grid.x % grid.y),
                      (unsigned)(at / ((uint64_t)grid.x * grid.y))};
            memset(b->smem, 0xff, smem); /* NaN: reading what was never written shows */
            b->serial++;
            run_block();
        }
        free(b->smem);
    }
};

template <class... P, class... A>
inline void launch(const char *name, void (*k)(P...), dim3 g, dim3 d, size_t smem, cudaStream_t s, A &&...a) {
    uint64_t t = (uint64_t)d.x * d.y * d.z;
    if (!g.x || !g.y || !g.z || !t || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535 || t > 1024 ||
        d.z > 64 || smem > coc_smem_limit((const void *)k))
        return coc_set_error(cudaErrorInvalidConfiguration);
    typedef Call<P...> C;
    coc_submit(
        s, new C(name, k, g, d, smem, std::forward<A>(a)...), [](void *c) { ((C *)c)->run(); },
        [](void *c) { delete (C *)c; });
}

template <int N> inline void cp_wait() {
    auto &g = cur->copies; /* the last entry is the group still open */
    size_t keep = N + 1, n = g.size() > keep ? g.size() - keep : 0;
    for (size_t i = 0; i < n; i++)
        for (auto &c : g[i]) memcpy(c.dst, c.src, 16);
    g.erase(g.begin(), g.begin() + n);
}
} // namespace coc

/* ---- what a .cu file sees ---- */
#define LAUNCH(kernel, grid, block, smem, stream, ...)                                                       \
    coc::launch(#kernel, kernel, dim3(grid), dim3(block), (smem), (stream), ##__VA_ARGS__)
#define DYN_SHARED(type, name) type *name = reinterpret_cast<type *>(coc::blk->smem)
#define SHARED(type, name, dims)                                                                             \
    alignas(16) static type name dims;                                                                       \
    static uint64_t name##_serial;                                                                           \
    coc::fresh(&name, sizeof name, name##_serial)
#define threadIdx                   (coc::cur->tid)
#define blockIdx                    (coc::blk->idx)
#define blockDim                    (coc::blk->dim)
#define gridDim                     (coc::blk->grid)
#define warpSize                    32
#define __syncthreads()             coc::sync_block(__LINE__)
#define __syncwarp(...)             coc::sync_warp(coc::mask_or_full(__VA_ARGS__), "__syncwarp", __LINE__)
#define __shfl_sync(m, v, ...)      coc::shfl(m, v, coc::FROM, __LINE__, __VA_ARGS__)
#define __shfl_xor_sync(m, v, ...)  coc::shfl(m, v, coc::XOR, __LINE__, __VA_ARGS__)
#define __shfl_down_sync(m, v, ...) coc::shfl(m, v, coc::DOWN, __LINE__, __VA_ARGS__)
#define __shfl_up_sync(m, v, ...)   coc::shfl(m, v, coc::UP, __LINE__, __VA_ARGS__)
#define __ballot_sync(m, p)         coc::ballot(m, (p) != 0, __LINE__)
#define __any_sync(m, p)            (coc::ballot(m, (p) != 0, __LINE__) != 0)
#define __all_sync(m, p)            (coc::ballot(m, !(p), __LINE__) == 0)
#define __threadfence()             ((void)0)
#define __trap()                    abort()
#define cp_async16(d, s)            coc::cur->copies.back().push_back({d, s})
#define cp_async_commit()           coc::cur->copies.emplace_back()
#define cp_async_wait               coc::cp_wait
#define mma_bf16_16816(d, a, b)     coc::mma(d, a, b, __LINE__)
#define ldmatrix_x4(r, row)         coc::ldmatrix(r, row, false, __LINE__)
#define ldmatrix_x4_trans(r, row)   coc::ldmatrix(r, row, true, __LINE__)
#define __expf(x)                   expf(x)
#define __logf(x)                   logf(x)
#define rsqrtf(x)                   (1.0f / sqrtf(x))
#define __fdividef(a, b)            ((a) / (b))
#define __frcp_rn(x)                (1.0f / (x))

namespace coc {
/* The first thread of a block to get here fills a static shared variable with NaN. */
inline void fresh(void *p, size_t n, uint64_t &serial) {
    if (serial != blk->serial) {
        serial = blk->serial;
        memset(p, 0xff, n);
    }
}
inline unsigned mask_or_full(unsigned m = 0xffffffffu) {
    return m;
}
inline float bf16_at(unsigned r, unsigned half) {
    unsigned u = (half ? r >> 16 : r & 0xffff) << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
struct Frag {
    unsigned a[4], b[2];
};
inline void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line) {
    Frag f = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    exchange(0xffffffffu, f, "mma_bf16_16816", line, [&](auto lane, unsigned me) {
        unsigned g = me / 4, c = me % 4 * 2;
        for (unsigned k = 0; k < 16; k++) {
            Frag a0 = lane(g * 4 + k % 8 / 2), b0 = lane(c * 4 + k % 8 / 2),
                 b1 = lane((c + 1) * 4 + k % 8 / 2);
            float lo = bf16_at(a0.a[k / 8 * 2], k & 1), hi = bf16_at(a0.a[k / 8 * 2 + 1], k & 1);
            float x = bf16_at(b0.b[k / 8], k & 1), y = bf16_at(b1.b[k / 8], k & 1);
            d[0] += lo * x;
            d[1] += lo * y;
            d[2] += hi * x;
            d[3] += hi * y;
        }
        return 0;
    });
}

inline void ldmatrix(unsigned (&r)[4], const void *row, bool trans, int line) {
    if ((uintptr_t)row % 16) die("ldmatrix row not aligned to 16 bytes");
    exchange(0xffffffffu, row, "ldmatrix", line, [&](auto lane, unsigned me) {
        for (unsigned j = 0; j < 4; j++) {
            uint16_t v[2];
            for (unsigned e = 0; e < 2; e++) {
                unsigned rr = trans ? me % 4 * 2 + e : me / 4, cc = trans ? me / 4 : me % 4 * 2 + e;
                v[e] = ((const uint16_t *)lane(j * 8 + rr))[cc];
            }
            r[j] = v[0] | (unsigned)v[1] << 16;
        }
        return 0;
    });
}
} // namespace coc

template <class A, class B> constexpr std::common_type_t<A, B> min(A a, B b) {
    return b < a ? b : a;
}
template <class A, class B> constexpr std::common_type_t<A, B> max(A a, B b) {
    return a < b ? b : a;
}
template <class T> inline T __ldg(const T *p) {
    return *p;
}
template <class T> inline T __ldcs(const T *p) {
    return *p;
}
template <class T> inline void __stcs(T *p, T v) {
    *p = v;
}
inline unsigned __float_as_uint(float f) {
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}
inline float __uint_as_float(unsigned u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
inline int __clz(int x) {
    return x ? __builtin_clz((unsigned)x) : 32;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((uint64_t)a * b >> 32);
}
template <class T, class U> inline T atomicAdd(T *p, U v) {
    T o = *p;
    *p = o + (T)v;
    return o;
}
template <class T, class U> inline T atomicMax(T *p, U v) {
    T o = *p;
    if (o < (T)v) *p = (T)v;
    return o;
}
template <class T, class U> inline T atomicMin(T *p, U v) {
    T o = *p;
    if ((T)v < o) *p = (T)v;
    return o;
}
template <class T, class U> inline T atomicExch(T *p, U v) {
    T o = *p;
    *p = (T)v;
    return o;
}
inline unsigned atomicInc(unsigned *p, unsigned top) {
    unsigned o = *p;
    *p = o >= top ? 0 : o + 1;
    return o;
}
template <class T> inline T atomicCAS(T *p, T c, T v) {
    T o = *p;
    if (o == c) *p = v;
    return o;
}
