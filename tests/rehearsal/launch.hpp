// A test tool. Kernel launches on the imaginary GPUs of machine.hpp: the bodies of crema/parallel_cuda.hpp,
// block by block. Threads of a block run as fibers from one __syncthreads() to the next, forwards and
// backwards in turn, so that a missing one reads what was there before.
#pragma once

#include <type_traits>

#include "machine.hpp"

inline thread_local uint3 threadIdx{}, blockIdx{};
inline thread_local dim3 blockDim, gridDim;

#undef __shared__
#define __shared__ static thread_local  // blocks run one after another

namespace rehearsal {

// Runs a block of which thread 0 is the first to run; body(context) is one thread. Without a __syncthreads()
// in thread 0, none is expected of the others.
void RunBlock(unsigned threads, void (*body)(const void*), const void* context);
// A Fault where a GPU would refuse the launch.
void CheckLaunchSizes(unsigned blocks, unsigned threads, size_t argument_bytes);
// A Fault where an argument, whose padding is zero, holds an address in memory of the host that is not
// pinned.
void CheckArgument(const void* argument, size_t bytes);
void SyncThreads();

template <class Argument>
void CheckAddresses(Argument argument) {
  __builtin_clear_padding(&argument);
  CheckArgument(&argument, sizeof(argument));
}

template <class... Parameters, class... Arguments>
void Launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, cudaStream_t stream,
            const Arguments&... arguments) {
  static_assert((std::is_trivially_copyable_v<Arguments> && ...),
                "CUDA copies a kernel's arguments as bytes");
  CheckLaunchSizes(blocks, threads, (sizeof(Arguments) + ... + 0));
  (CheckAddresses(arguments), ...);
  Enqueue(stream, "a kernel launch", [=] {
    const auto body = [&] { kernel(arguments...); };
    gridDim = dim3(blocks), blockDim = dim3(threads);
    for (unsigned block = 0; block < blocks; ++block) {
      blockIdx = {block, 0, 0};
      RunBlock(
          threads, [](const void* context) { (*static_cast<const decltype(body)*>(context))(); }, &body);
    }
  });
}

}  // namespace rehearsal

inline void __syncthreads() {
  rehearsal::SyncThreads();
}
