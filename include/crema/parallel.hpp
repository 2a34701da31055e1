// Floor 2. The launchers: the only places that run a kernel over many indices, as OpenMP loops on the CPU
// and as the __global__ templates of parallel_cuda.hpp on a GPU. A kernel is a named aggregate struct at
// namespace scope whose fields are pointers and sizes, with one `CREMA_HD operator() const`. Results do not
// depend on the number of threads.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "crema/context.hpp"

namespace crema {

// Two sums made in one sweep.
template <class T>
struct Pair {
  T first = 0, second = 0;
};

// A term of a sum as its numbers, so that sums are kept number by number and several columns add up at once.
// A term with several numbers specialises it.
template <class T>
struct TermOf {
  static constexpr int kNumbers = 1;
  using Real = T;
  CREMA_HD static Real Get(const T& term, int) { return term; }
  CREMA_HD static void Add(T* term, int, double value) { *term += static_cast<T>(value); }
};
template <class T>
struct TermOf<Pair<T>> {
  static constexpr int kNumbers = 2;
  using Real = T;
  CREMA_HD static Real Get(const Pair<T>& term, int k) { return k == 0 ? term.first : term.second; }
  CREMA_HD static void Add(Pair<T>* term, int k, double value) {
    (k == 0 ? term->first : term->second) += static_cast<T>(value);
  }
};

// A kernel that many have a use for: the same value everywhere.
template <class T>
struct SetTo {
  T* out;
  T value;
  CREMA_HD void operator()(int64_t i) const { out[i] = value; }
};

// Hints that memory will be read soon: rows that lie anywhere are not foreseen by the processor.
CREMA_HD inline void Prefetch(const void* from, int64_t bytes) {
#ifndef __CUDA_ARCH__
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(static_cast<const char*>(from) + at);
  asm volatile("");  // GCC would take this for a function without an effect, and leave out its calls
#else
  (void)from, (void)bytes;
#endif
}

// Asks for a row of `width` numbers that will soon have its turn, row k of those listed having it now.
template <class Stored>
CREMA_HD void PrefetchRow(const Stored* x, const int64_t* rows, int64_t k, int64_t count, int64_t width) {
  constexpr int64_t kAhead = 4;
  if (rows != nullptr && k + kAhead < count)
    Prefetch(x + rows[k + kAhead] * width, width * static_cast<int64_t>(sizeof(Stored)));
}

// The threads that go over a row together: on the CPU a single one, on a GPU those of a block. A kernel
// visits the elements i = first(), first() + step(), ...; the sum and the largest of what all lanes bring are
// given to every one of them, and all lanes must ask for them together.
struct OneLane {
  static constexpr int64_t kRun = 64;  // neighbouring elements that a lane does best to take at a time
  CREMA_HD static constexpr int64_t first() { return 0; }
  CREMA_HD static constexpr int64_t step() { return 1; }
  // Whether it is this lane that goes by an element.
  CREMA_HD static constexpr bool Visits(int64_t) { return true; }
  template <class T>
  CREMA_HD static T Sum(T x) {
    return x;
  }
  template <class T>
  CREMA_HD static T Max(T x) {
    return x;
  }
};
template <class F>
constexpr bool kTakesLanes = std::is_invocable_v<const F&, int64_t, const OneLane&>;

constexpr int64_t kSerialBelow = 1 << 13;  // elements under which a thread team costs more than it gives

// Some of the channel groups of a layout.
struct Groups {
  int64_t first = 0, count = 0;
};

namespace gpu {  // bodies: parallel_cuda.hpp, which nvcc alone compiles

template <class F>
void ForEach(const Context& ctx, int64_t count, const F& f);
template <class F>
void ForEachRow(const Context& ctx, int64_t rows, const F& f);
template <class F>
void ForEach(const Context& ctx, const Channel& ch, const Groups& part, const F& f);
template <class F>
void ForEachChannel(const Context& ctx, const Channel& ch, const Groups& part, const F& f);
template <Reduce op, class T, class F>
void RowReduce(const Context& ctx, int64_t rows, int64_t terms, const F& f, T* out);
template <class T, class F>
void ColumnReduce(const Context& ctx, const Channel& ch, const Groups& part, const F& f, T* out);

}  // namespace gpu

namespace detail {

// Whether the kernel F of this file can run on a GPU. In a build with CUDA it must: on the CPU it would go
// over the GPU's memory.
template <class F>
constexpr bool CompiledForGpu() {
#if defined(__CUDACC__) || defined(CREMA_REHEARSAL)
  return true;
#else
#ifdef CREMA_CUDA
  static_assert(sizeof(F) == 0, "a file with launches is compiled by nvcc; let CMake configure again");
#endif
  return false;
#endif
}

}  // namespace detail

// f(i) for every i in [0, count).
template <class F>
void ForEach(const Context& ctx, int64_t count, const F& f) {
  if constexpr (detail::CompiledForGpu<F>()) {
    if (ctx.device->is_cuda()) return gpu::ForEach(ctx, count, f);
  }
#pragma omp parallel for simd schedule(static) if (count > kSerialBelow)
  for (int64_t i = 0; i < count; ++i) f(i);
}

// f(row) for every row in [0, rows), each of them long: rows are shared among the threads one by one. A
// kernel f(row, lanes) is given the lanes of its row; see OneLane.
template <class F>
void ForEachRow(const Context& ctx, int64_t rows, const F& f) {
  if constexpr (detail::CompiledForGpu<F>()) {
    if (ctx.device->is_cuda()) return gpu::ForEachRow(ctx, rows, f);
  }
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    if constexpr (kTakesLanes<F>) {
      f(row, OneLane{});
    } else {
      f(row);
    }
  }
}

// Threads that ForEachTask works with.
inline int Workers([[maybe_unused]] const Context& ctx) {
#ifdef _OPENMP
  return ctx.device->is_cuda() ? 1 : omp_get_max_threads();
#else
  return 1;
#endif
}

// Host code that feeds the device piece by piece: f(task, worker) for every task in [0, tasks), on the CPU
// several at once, each on one of Workers() threads; what f launches or multiplies runs on that thread alone.
template <class F>
void ForEachTask(const Context& ctx, int64_t tasks, const F& f) {
  const bool several = !ctx.device->is_cuda();
#pragma omp parallel for schedule(dynamic, 1) if (several)
  for (int64_t task = 0; task < tasks; ++task) {
#ifdef _OPENMP
    f(task, omp_get_thread_num());
#else
    f(task, 0);
#endif
  }
}

namespace detail {

// f(i, c) over the run of positions [s0, s1) of one channel group; B is the block where the compiler may know
// it.
template <int64_t B, class F>
void GroupRun(const Channel& ch, int64_t unit, int64_t s0, int64_t s1, const F& f) {
  const int64_t block = B > 0 ? B : ch.block, first = unit * ch.inner * block;
  const int64_t c0 = unit % ch.groups * block;
  if (block == 1) {
#pragma omp simd
    for (int64_t s = s0; s < s1; ++s) f(first + s, c0);
  } else {
    for (int64_t s = s0; s < s1; ++s) {
#pragma omp simd
      for (int64_t j = 0; j < block; ++j) f(first + s * block + j, c0 + j);
    }
  }
}

constexpr int64_t kChunk = 256;  // terms summed in the terms' type before they go into a double

// Sums f(i, c) over the positions of one unit (sample and channel group) into wide[numbers][block]; `narrow`
// has room for as many numbers where the compiler does not know the block.
template <int64_t B, class T, class F>
void GroupSum(const Channel& ch, int64_t unit, const F& f, double* wide, typename TermOf<T>::Real* narrow) {
  using Real = typename TermOf<T>::Real;
  constexpr int kNumbers = TermOf<T>::kNumbers;
  const int64_t block = B > 0 ? B : ch.block, first = unit * ch.inner * block, c0 = unit % ch.groups * block;
  for (int64_t n = 0; n < kNumbers * block; ++n) wide[n] = 0;
  for (int64_t s0 = 0; s0 < ch.inner; s0 += kChunk) {
    const int64_t s1 = std::min(ch.inner, s0 + kChunk);
    Real local[B > 0 ? B * kNumbers : 1];
    Real* sum = B > 0 ? local : narrow;
    for (int64_t n = 0; n < kNumbers * block; ++n) sum[n] = 0;
    for (int64_t s = s0; s < s1; ++s) {
#pragma omp simd
      for (int64_t j = 0; j < block; ++j) {
        const T term = f(first + s * block + j, c0 + j);
        for (int k = 0; k < kNumbers; ++k) sum[k * block + j] += TermOf<T>::Get(term, k);
      }
    }
    for (int64_t n = 0; n < kNumbers * block; ++n) wide[n] += static_cast<double>(sum[n]);
  }
}

}  // namespace detail

// All groups, cut into parts whose elements stay in the cache from one sweep to the next: what goes over a
// tensor several times, channel by channel, goes over it part by part. A GPU takes all at once: a part would
// not fill it.
inline std::vector<Groups> CacheParts(const Context& ctx, const Channel& ch, int64_t element_bytes) {
  if (ctx.device->is_cuda()) return {{0, ch.groups}};
  constexpr int64_t kPartBytes = 2 << 20;
  const int64_t group_bytes = std::max<int64_t>(1, ch.outer * ch.inner * ch.block * element_bytes);
  const int64_t most = std::max<int64_t>(1, kPartBytes / group_bytes);
  std::vector<Groups> parts;
  for (int64_t first = 0; first < ch.groups; first += most)
    parts.push_back({first, std::min(most, ch.groups - first)});
  return parts;
}

namespace detail {

// The k-th unit (sample and channel group) of some groups.
CREMA_HD inline int64_t UnitOf(const Channel& ch, const Groups& part, int64_t k) {
  return k / part.count * ch.groups + part.first + k % part.count;
}

}  // namespace detail

// f(c) for every channel of some groups.
template <class F>
void ForEachChannel(const Context& ctx, const Channel& ch, const Groups& part, const F& f) {
  if constexpr (detail::CompiledForGpu<F>()) {
    if (ctx.device->is_cuda()) return gpu::ForEachChannel(ctx, ch, part, f);
  }
  const int64_t end = (part.first + part.count) * ch.block;
  for (int64_t c = part.first * ch.block; c < end; ++c) f(c);
}

// f(i, c) for every element i of a tensor laid out as `ch`, or of some of its groups; c is its channel.
template <class F>
void ForEach(const Context& ctx, const Channel& ch, const Groups& part, const F& f) {
  if constexpr (detail::CompiledForGpu<F>()) {
    if (ctx.device->is_cuda()) return gpu::ForEach(ctx, ch, part, f);
  }
  // Runs short enough to share evenly, long enough to be worth a call.
  const int64_t units = ch.outer * part.count, run = std::max<int64_t>(1, 4096 / ch.block);
  const int64_t runs = (ch.inner + run - 1) / run;
#pragma omp parallel for schedule(static) if (units * ch.inner * ch.block > kSerialBelow)
  for (int64_t k = 0; k < units * runs; ++k) {
    const int64_t unit = detail::UnitOf(ch, part, k / runs), s0 = k % runs * run,
                  s1 = std::min(ch.inner, s0 + run);
    if (ch.block == 16) {
      detail::GroupRun<16>(ch, unit, s0, s1, f);
    } else if (ch.block == 8) {
      detail::GroupRun<8>(ch, unit, s0, s1, f);
    } else {
      detail::GroupRun<0>(ch, unit, s0, s1, f);
    }
  }
}

template <class F>
void ForEach(const Context& ctx, const Channel& ch, const F& f) {
  ForEach(ctx, ch, Groups{0, ch.groups}, f);
}

// out[row] = the sum (or maximum) of f(row, k) over k in [0, terms).
template <Reduce op, class T, class F>
void RowReduce(const Context& ctx, int64_t rows, int64_t terms, const F& f, T* out) {
  if constexpr (detail::CompiledForGpu<F>()) {
    if (ctx.device->is_cuda()) return gpu::RowReduce<op>(ctx, rows, terms, f, out);
  }
#pragma omp parallel for schedule(static) if (rows * terms > kSerialBelow)
  for (int64_t row = 0; row < rows; ++row) {
    if constexpr (op == Reduce::kMax) {
      T best = f(row, 0);
      for (int64_t k = 1; k < terms; ++k) best = std::max<T>(best, f(row, k));
      out[row] = best;
    } else {
      double sum = 0;
      for (int64_t k0 = 0; k0 < terms; k0 += detail::kChunk) {
        T part{};
        const int64_t k1 = std::min(terms, k0 + detail::kChunk);
        for (int64_t k = k0; k < k1; ++k) part += f(row, k);
        sum += static_cast<double>(part);
      }
      out[row] = static_cast<T>(sum);
    }
  }
}

// out[c] += the sum of f(i, c) over the elements i of channel c, for all channels or those of some groups.
// Few columns, many terms.
template <class T, class F>
void ColumnReduce(const Context& ctx, const Channel& ch, const Groups& part, const F& f, T* out) {
  if constexpr (detail::CompiledForGpu<F>()) {
    if (ctx.device->is_cuda()) return gpu::ColumnReduce(ctx, ch, part, f, out);
  }
  using Real = typename TermOf<T>::Real;
  constexpr int kNumbers = TermOf<T>::kNumbers;
  const int64_t units = ch.outer * part.count, room = kNumbers * ch.block;
  char* scratch = static_cast<char*>(
      ctx.scratch->Get(units * room * static_cast<int64_t>(sizeof(double) + sizeof(Real))));
  double* partial = reinterpret_cast<double*>(scratch);  // [N, part.count, numbers, block]
  Real* narrow = reinterpret_cast<Real*>(scratch + units * room * static_cast<int64_t>(sizeof(double)));
#pragma omp parallel for schedule(static) if (units * ch.inner * ch.block > kSerialBelow)
  for (int64_t k = 0; k < units; ++k) {
    const int64_t unit = detail::UnitOf(ch, part, k);
    double* wide = partial + k * room;
    if (ch.block == 16) {
      detail::GroupSum<16, T>(ch, unit, f, wide, nullptr);
    } else if (ch.block == 8) {
      detail::GroupSum<8, T>(ch, unit, f, wide, nullptr);
    } else if (ch.block == 1) {
      detail::GroupSum<1, T>(ch, unit, f, wide, nullptr);
    } else {
      detail::GroupSum<0, T>(ch, unit, f, wide, narrow + k * room);
    }
  }
  const int64_t channels = part.count * ch.block;
#pragma omp parallel for schedule(static) if (channels * ch.outer > kSerialBelow)
  for (int64_t c = 0; c < channels; ++c) {
    for (int k = 0; k < kNumbers; ++k) {
      double sum = 0;
      for (int64_t n = 0; n < ch.outer; ++n)
        sum += partial[(n * part.count + c / ch.block) * room + k * ch.block + c % ch.block];
      TermOf<T>::Add(&out[part.first * ch.block + c], k, sum);
    }
  }
}

template <class T, class F>
void ColumnReduce(const Context& ctx, const Channel& ch, const F& f, T* out) {
  ColumnReduce(ctx, ch, Groups{0, ch.groups}, f, out);
}

}  // namespace crema

#if defined(__CUDACC__) || defined(CREMA_REHEARSAL)
#include "crema/parallel_cuda.hpp"
#endif
