// Floor 2. The launchers on a GPU: the only __global__ code of the project. Included by parallel.hpp, where
// nvcc compiles, and in the rehearsal, which runs the same bodies on the CPU. Grids and the order of sums
// depend on sizes alone, so that results are the same on every run and every GPU of one architecture.
#pragma once

#include "crema/parallel.hpp"

#ifdef CREMA_REHEARSAL
#include <rehearsal/launch.hpp>  // tests/rehearsal; no part of a release
#endif

namespace crema::gpu {

#ifdef CREMA_REHEARSAL
using rehearsal::Launch;
#else
template <class... Parameters, class... Arguments>
void Launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, cudaStream_t stream,
            const Arguments&... arguments) {
  // clang-format would part the brackets.
  // clang-format off
  kernel<<<blocks, threads, 0, stream>>>(arguments...);
  // clang-format on
}
#endif

constexpr int kThreads = 256;             // of a block
constexpr int64_t kMostBlocks = 1 << 16;  // a larger grid only starts more blocks than any GPU runs at once
constexpr int64_t kWarp = 32;

inline int64_t DivideUp(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

inline cudaStream_t StreamOf(const Context& ctx) {
  return static_cast<cudaStream_t>(ctx.device->Stream());
}

inline void CheckLaunch(const Context& ctx, const char* launcher) {
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess)
    throw DeviceError(Concat(ctx.device->name(), " did not start a kernel of ", launcher, ": ",
                             cudaGetErrorString(status)));
}

// ----------------------------------------------------------------------------------------------------
// ForEach

template <class F>
__global__ void ForEachKernel(int64_t count, const F f) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) f(i);
}

template <class F>
void ForEach(const Context& ctx, int64_t count, const F& f) {
  if (count <= 0) return;
  const unsigned blocks = static_cast<unsigned>(std::min(kMostBlocks, DivideUp(count, kThreads)));
  Launch(ForEachKernel<F>, blocks, kThreads, StreamOf(ctx), count, f);
  CheckLaunch(ctx, "ForEach");
}

// The threads of a block, a multiple of 16, as the lanes of a row.
struct BlockLanes {
  static constexpr int64_t kRun = 1;  // neighbouring threads read neighbours
  __device__ int64_t first() const { return threadIdx.x; }
  __device__ int64_t step() const { return blockDim.x; }
  __device__ bool Visits(int64_t i) const { return i % blockDim.x == threadIdx.x; }
  template <class T>
  __device__ T Sum(T x) const {
    return Fold<Reduce::kSum>(x);
  }
  template <class T>
  __device__ T Max(T x) const {
    return Fold<Reduce::kMax>(x);
  }

 private:
  template <Reduce op, class T>
  __device__ static T Fold(T x) {
    __shared__ T values[kThreads];
    const unsigned parts = blockDim.x / 16;
    values[threadIdx.x] = x;
    __syncthreads();
    if (threadIdx.x < parts) {
      for (unsigned k = 1; k < 16; ++k) Join<op>(&values[threadIdx.x], values[threadIdx.x + k * parts]);
    }
    __syncthreads();
    T all = values[0];
    for (unsigned k = 1; k < parts; ++k) Join<op>(&all, values[k]);
    __syncthreads();  // before the next fold overwrites the values
    return all;
  }
  template <Reduce op, class T>
  __device__ static void Join(T* sum, T x) {
    if constexpr (op == Reduce::kMax) {
      *sum = *sum < x ? x : *sum;
    } else {
      *sum += x;
    }
  }
};

template <class F>
__global__ void ForEachRowKernel(int64_t rows, const F f) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) f(row, BlockLanes{});
}

template <class F>
void ForEachRow(const Context& ctx, int64_t rows, const F& f) {
  if constexpr (kTakesLanes<F>) {
    constexpr unsigned kLanes = 64;
    if (rows <= 0) return;
    const unsigned blocks = static_cast<unsigned>(std::min(kMostBlocks, rows));
    Launch(ForEachRowKernel<F>, blocks, kLanes, StreamOf(ctx), rows, f);
    CheckLaunch(ctx, "ForEachRow");
  } else {
    gpu::ForEach(ctx, rows, f);
  }
}

// f at the k-th element of some groups, with its channel.
template <class F>
struct AtElement {
  Channel ch;
  Groups part;
  F f;
  CREMA_HD void operator()(int64_t k) const {
    if (ch.groups == 1) return f(k, k % ch.block);  // channels last: one division
    const int64_t run = ch.inner * ch.block, unit = detail::UnitOf(ch, part, k / run), at = k % run;
    f(unit * run + at, unit % ch.groups * ch.block + at % ch.block);
  }
};

template <class F>
void ForEach(const Context& ctx, const Channel& ch, const Groups& part, const F& f) {
  gpu::ForEach(ctx, ch.outer * part.count * ch.inner * ch.block, AtElement<F>{ch, part, f});
}

template <class F>
struct AtOffset {
  int64_t first;
  F f;
  CREMA_HD void operator()(int64_t k) const { f(first + k); }
};

template <class F>
void ForEachChannel(const Context& ctx, const Channel& ch, const Groups& part, const F& f) {
  gpu::ForEach(ctx, part.count * ch.block, AtOffset<F>{part.first * ch.block, f});
}

// --------------------------------------------------------------------------------------------------
// RowReduce

// One thread's part of a row: terms thread, thread + threads, ... A sum is kept in the terms' type for a
// while and then in a double, as on the CPU.
template <Reduce op, class T, class F>
__device__ auto PartOfRow(int64_t row, int64_t terms, const F& f) {
  if constexpr (op == Reduce::kMax) {
    T best = f(row, threadIdx.x < terms ? threadIdx.x : 0);
    for (int64_t k = int64_t{threadIdx.x} + blockDim.x; k < terms; k += blockDim.x) {
      const T value = f(row, k);
      best = best < value ? value : best;
    }
    return best;
  } else {
    double sum = 0;
    for (int64_t k = threadIdx.x; k < terms;) {
      T part{};
      for (int64_t n = 0; n < detail::kChunk && k < terms; ++n, k += blockDim.x) part += f(row, k);
      sum += static_cast<double>(part);
    }
    return sum;
  }
}

// A block for each row.
template <Reduce op, class T, class F>
__global__ void RowReduceKernel(int64_t rows, int64_t terms, const F f, T* out) {
  const BlockLanes lanes;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const auto part = PartOfRow<op, T>(row, terms, f);
    const auto whole = op == Reduce::kMax ? lanes.Max(part) : lanes.Sum(part);
    if (threadIdx.x == 0) out[row] = static_cast<T>(whole);
  }
}

template <Reduce op, class T, class F>
void RowReduce(const Context& ctx, int64_t rows, int64_t terms, const F& f, T* out) {
  if (rows <= 0) return;
  unsigned threads = kWarp;
  while (threads < kThreads && int64_t{threads} * 4 < terms) threads *= 2;
  const unsigned blocks = static_cast<unsigned>(std::min(kMostBlocks, rows));
  Launch(RowReduceKernel<op, T, F>, blocks, threads, StreamOf(ctx), rows, terms, f, out);
  CheckLaunch(ctx, "RowReduce");
}

// -----------------------------------------------------------------------------------------------
// ColumnReduce

// How the terms are shared out. A block sums `lanes` neighbouring channels of one group over one slice of
// their positions: a warp reads neighbours in memory, whether these are channels or positions.
struct ColumnTiles {
  Channel ch;
  Groups part;
  int64_t lanes;  // a power of two, up to a warp
  int64_t slices;

  CREMA_HD int64_t channels() const { return part.count * ch.block; }
  CREMA_HD int64_t positions() const { return ch.outer * ch.inner; }
  CREMA_HD int64_t tiles_of_group() const { return (ch.block + lanes - 1) / lanes; }
  // Index of a group's channel j at a position.
  CREMA_HD int64_t at(int64_t group, int64_t position, int64_t j) const {
    if (ch.groups == 1) return position * ch.block + j;
    return ((position / ch.inner * ch.groups + group) * ch.inner + position % ch.inner) * ch.block + j;
  }
};

inline ColumnTiles TilesOf(const Channel& ch, const Groups& part) {
  constexpr int64_t kBlocks = 512, kMostSlices = 256;  // enough to fill a GPU, few enough to add up quickly
  constexpr int64_t kTermsOfThread = 32;               // at least, before there is another slice
  ColumnTiles tiles{ch, part, 1, 1};
  while (tiles.lanes < kWarp && tiles.lanes * 2 <= ch.block) tiles.lanes *= 2;
  const int64_t by_size = tiles.positions() * tiles.lanes / (kThreads * kTermsOfThread);
  const int64_t by_grid = kBlocks / std::max<int64_t>(1, part.count * tiles.tiles_of_group());
  tiles.slices = std::clamp<int64_t>(std::min(by_size, by_grid), 1, kMostSlices);
  return tiles;
}

// partial[slice][number][channel] = the sum over a slice.
template <class T, class F>
__global__ void ColumnSliceKernel(const ColumnTiles tiles, const F f, double* partial) {
  using Real = typename TermOf<T>::Real;
  constexpr int kNumbers = TermOf<T>::kNumbers;
  __shared__ double sums[kNumbers][kThreads];
  const Channel& ch = tiles.ch;
  const int64_t tile = blockIdx.x / tiles.slices, slice = blockIdx.x % tiles.slices;
  const int64_t group = tiles.part.first + tile / tiles.tiles_of_group();
  const int64_t lane = threadIdx.x % tiles.lanes, row = threadIdx.x / tiles.lanes,
                rows = kThreads / tiles.lanes;
  const int64_t j = tile % tiles.tiles_of_group() * tiles.lanes + lane;
  const int64_t begin = tiles.positions() * slice / tiles.slices;
  const int64_t end = j < ch.block ? tiles.positions() * (slice + 1) / tiles.slices : begin;

  double wide[kNumbers] = {};
  for (int64_t position = begin + row; position < end;) {
    Real narrow[kNumbers] = {};
    for (int64_t n = 0; n < detail::kChunk && position < end; ++n, position += rows) {
      const T term = f(tiles.at(group, position, j), group * ch.block + j);
      for (int k = 0; k < kNumbers; ++k) narrow[k] += TermOf<T>::Get(term, k);
    }
    for (int k = 0; k < kNumbers; ++k) wide[k] += static_cast<double>(narrow[k]);
  }
  for (int k = 0; k < kNumbers; ++k) sums[k][threadIdx.x] = wide[k];
  for (int64_t half = rows / 2; half > 0; half /= 2) {
    __syncthreads();
    if (row >= half) continue;
    for (int k = 0; k < kNumbers; ++k) sums[k][threadIdx.x] += sums[k][threadIdx.x + half * tiles.lanes];
  }
  if (row > 0 || j >= ch.block) return;
  const int64_t channel = (group - tiles.part.first) * ch.block + j;
  for (int k = 0; k < kNumbers; ++k)
    partial[(slice * kNumbers + k) * tiles.channels() + channel] = sums[k][threadIdx.x];
}

template <class T>
struct AddSlices {
  const double* partial;
  int64_t slices, channels;
  T* out;
  CREMA_HD void operator()(int64_t c) const {
    for (int k = 0; k < TermOf<T>::kNumbers; ++k) {
      double sum = 0;
      for (int64_t slice = 0; slice < slices; ++slice)
        sum += partial[(slice * TermOf<T>::kNumbers + k) * channels + c];
      TermOf<T>::Add(&out[c], k, sum);
    }
  }
};

template <class T, class F>
void ColumnReduce(const Context& ctx, const Channel& ch, const Groups& part, const F& f, T* out) {
  const ColumnTiles tiles = TilesOf(ch, part);
  if (tiles.channels() <= 0 || tiles.positions() <= 0) return;
  double* partial = ctx.scratch->Get<double>(tiles.slices * TermOf<T>::kNumbers * tiles.channels());
  const unsigned blocks = static_cast<unsigned>(part.count * tiles.tiles_of_group() * tiles.slices);
  Launch(ColumnSliceKernel<T, F>, blocks, kThreads, StreamOf(ctx), tiles, f, partial);
  CheckLaunch(ctx, "ColumnReduce");
  gpu::ForEach(ctx, tiles.channels(),
               AddSlices<T>{partial, tiles.slices, tiles.channels(), out + part.first * ch.block});
}

}  // namespace crema::gpu
