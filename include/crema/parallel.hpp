// Floor 2. The launchers: the only places that run a kernel over many indices, as OpenMP loops on the CPU
// (and as the only __global__ templates on CUDA). A kernel is a named aggregate struct at namespace scope
// whose fields are pointers and sizes, with one `CREMA_HD operator() const`. Results do not depend on the
// number of threads.
#pragma once

#include <algorithm>

#include "crema/context.hpp"

namespace crema {

// Two sums made in one sweep.
template <class T>
struct Pair {
  T first = 0, second = 0;
  CREMA_HD Pair& operator+=(const Pair& other) {
    first += other.first;
    second += other.second;
    return *this;
  }
};

// The type in which long sums are carried, and the way back.
template <class T>
struct WideOf {
  using Type = double;
  static double Widen(T x) { return x; }
  static T Narrow(double x) { return static_cast<T>(x); }
};
template <class T>
struct WideOf<Pair<T>> {
  using Type = Pair<double>;
  static Type Widen(const Pair<T>& x) {
    return {static_cast<double>(x.first), static_cast<double>(x.second)};
  }
  static Pair<T> Narrow(const Type& x) { return {static_cast<T>(x.first), static_cast<T>(x.second)}; }
};

constexpr int64_t kSerialBelow = 1 << 13;  // elements under which a thread team costs more than it gives

// f(i) for every i in [0, count).
template <class F>
void ForEach(const Context&, int64_t count, const F& f) {
#pragma omp parallel for simd schedule(static) if (count > kSerialBelow)
  for (int64_t i = 0; i < count; ++i) f(i);
}

// f(row) for every row in [0, rows), each of them long: rows are shared among the threads one by one.
template <class F>
void ForEachRow(const Context&, int64_t rows, const F& f) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) f(row);
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

constexpr int64_t kChunk = 256;  // terms summed in the narrow type before they go into the wide one

// Sums f(i, c) over the positions of one unit (sample and channel group) into wide[block].
template <int64_t B, class T, class F>
void GroupSum(const Channel& ch, int64_t unit, const F& f, typename WideOf<T>::Type* wide, T* narrow) {
  const int64_t block = B > 0 ? B : ch.block, first = unit * ch.inner * block, c0 = unit % ch.groups * block;
  for (int64_t j = 0; j < block; ++j) wide[j] = {};
  for (int64_t s0 = 0; s0 < ch.inner; s0 += kChunk) {
    const int64_t s1 = std::min(ch.inner, s0 + kChunk);
    T local[B > 0 ? B : 1];
    T* sum = B > 0 ? local : narrow;
    for (int64_t j = 0; j < block; ++j) sum[j] = T{};
    for (int64_t s = s0; s < s1; ++s)
      for (int64_t j = 0; j < block; ++j) sum[j] += f(first + s * block + j, c0 + j);
    for (int64_t j = 0; j < block; ++j) wide[j] += WideOf<T>::Widen(sum[j]);
  }
}

}  // namespace detail

// f(i, c) for every element i of a tensor laid out as `ch`, c its channel.
template <class F>
void ForEach(const Context&, const Channel& ch, const F& f) {
  // Runs short enough to share evenly, long enough to be worth a call.
  const int64_t units = ch.outer * ch.groups, run = std::max<int64_t>(1, 4096 / ch.block);
  const int64_t runs = (ch.inner + run - 1) / run;
#pragma omp parallel for schedule(static) if (ch.count() > kSerialBelow)
  for (int64_t k = 0; k < units * runs; ++k) {
    const int64_t unit = k / runs, s0 = k % runs * run, s1 = std::min(ch.inner, s0 + run);
    if (ch.block == 16) {
      detail::GroupRun<16>(ch, unit, s0, s1, f);
    } else if (ch.block == 8) {
      detail::GroupRun<8>(ch, unit, s0, s1, f);
    } else {
      detail::GroupRun<0>(ch, unit, s0, s1, f);
    }
  }
}

// out[row] = the sum (or maximum) of f(row, k) over k in [0, terms).
template <Reduce op, class T, class F>
void RowReduce(const Context&, int64_t rows, int64_t terms, const F& f, T* out) {
  using Wide = WideOf<T>;
#pragma omp parallel for schedule(static) if (rows * terms > kSerialBelow)
  for (int64_t row = 0; row < rows; ++row) {
    if constexpr (op == Reduce::kMax) {
      T best = f(row, 0);
      for (int64_t k = 1; k < terms; ++k) best = std::max<T>(best, f(row, k));
      out[row] = best;
    } else {
      typename Wide::Type sum{};
      for (int64_t k0 = 0; k0 < terms; k0 += detail::kChunk) {
        T part{};
        const int64_t k1 = std::min(terms, k0 + detail::kChunk);
        for (int64_t k = k0; k < k1; ++k) part += f(row, k);
        sum += Wide::Widen(part);
      }
      out[row] = Wide::Narrow(sum);
    }
  }
}

// out[c] += the sum of f(i, c) over the elements i of channel c. Few columns, many terms.
template <class T, class F>
void ColumnReduce(const Context& ctx, const Channel& ch, const F& f, T* out) {
  using Wide = typename WideOf<T>::Type;
  const int64_t units = ch.outer * ch.groups, channels = ch.channels();
  char* scratch =
      static_cast<char*>(ctx.scratch->Get(units * ch.block * static_cast<int64_t>(sizeof(Wide) + sizeof(T))));
  Wide* partial = reinterpret_cast<Wide*>(scratch);  // [N, C]
  T* narrow = reinterpret_cast<T*>(scratch + units * ch.block * static_cast<int64_t>(sizeof(Wide)));
#pragma omp parallel for schedule(static) if (ch.count() > kSerialBelow)
  for (int64_t unit = 0; unit < units; ++unit) {
    if (ch.block == 16) {
      detail::GroupSum<16, T>(ch, unit, f, partial + unit * ch.block, narrow + unit * ch.block);
    } else if (ch.block == 8) {
      detail::GroupSum<8, T>(ch, unit, f, partial + unit * ch.block, narrow + unit * ch.block);
    } else if (ch.block == 1) {
      detail::GroupSum<1, T>(ch, unit, f, partial + unit * ch.block, narrow + unit * ch.block);
    } else {
      detail::GroupSum<0, T>(ch, unit, f, partial + unit * ch.block, narrow + unit * ch.block);
    }
  }
#pragma omp parallel for schedule(static) if (channels * ch.outer > kSerialBelow)
  for (int64_t c = 0; c < channels; ++c) {
    Wide sum{};
    for (int64_t n = 0; n < ch.outer; ++n) sum += partial[n * channels + c];
    out[c] += WideOf<T>::Narrow(sum);
  }
}

}  // namespace crema
