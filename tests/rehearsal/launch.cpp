#include "launch.hpp"

#include <sys/mman.h>

#include <boost/context/fiber.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>
#include <cstring>
#include <vector>

namespace rehearsal {
namespace {

namespace context = boost::context;

constexpr size_t kStackBytes = 64 << 10;

// The fibers of the block that runs on this thread.
struct Block {
  context::pooled_fixedsize_stack stacks{kStackBytes};
  context::fiber scheduler;  // to go back to from a thread's fiber
  bool inside = false;       // of a fiber
};
Block& ThisBlock() {
  static thread_local Block block;
  return block;
}

context::fiber NewFiber(void (*body)(const void*), const void* argument) {
  return {std::allocator_arg, ThisBlock().stacks, [=](context::fiber&& scheduler) {
            ThisBlock().scheduler = std::move(scheduler);
            body(argument);
            return std::move(ThisBlock().scheduler);
          }};
}

// Up to its next __syncthreads(), or its end; false where it has ended.
bool Run(context::fiber* thread, unsigned index) {
  threadIdx = {index, 0, 0};
  ThisBlock().inside = true;
  *thread = std::move(*thread).resume();
  ThisBlock().inside = false;
  return static_cast<bool>(*thread);
}

// Threads of which the first waits at its first __syncthreads().
void RunInStep(std::vector<context::fiber>* fibers) {
  const unsigned threads = static_cast<unsigned>(fibers->size());
  for (bool forwards = false;; forwards = !forwards) {
    unsigned waiting = 0;
    for (unsigned k = 0; k < threads; ++k) {
      const unsigned index = forwards ? k : threads - 1 - k;
      waiting += Run(&(*fibers)[index], index) ? 1 : 0;
    }
    if (waiting == 0) return;
    if (waiting < threads) Fault("some threads of a block ended where others wait at __syncthreads()");
  }
}

}  // namespace

void CheckLaunchSizes(unsigned blocks, unsigned threads, size_t argument_bytes) {
  if (blocks == 0 || blocks > 0x7FFFFFFF) Fault("a kernel launch of " + std::to_string(blocks) + " blocks");
  if (threads == 0 || threads > 1024)
    Fault("a kernel launch of " + std::to_string(threads) + " threads in a block");
  if (argument_bytes > 4096)
    Fault("a kernel launch with " + std::to_string(argument_bytes) + " bytes of arguments");
}

// Any word that is one, for a kernel's arguments are fields whose types are not known here: numbers of 64
// bits that happen to be are next to impossible.
void CheckArgument(const void* argument, size_t bytes) {
  constexpr uintptr_t kPage = 4096;
  for (size_t at = 0; at + sizeof(void*) <= bytes; at += sizeof(void*)) {
    uintptr_t word;
    std::memcpy(&word, static_cast<const char*>(argument) + at, sizeof(word));
    const void* address = reinterpret_cast<const void*>(word);
    if (word < kPage || word >= uintptr_t{1} << 47 || IsOnGpu(address) || IsPinned(address, 0)) continue;
    unsigned char resident;
    if (mincore(reinterpret_cast<void*>(word / kPage * kPage), 1, &resident) == 0)
      Fault("a kernel is given an address in the host's memory that is not pinned, at byte " +
            std::to_string(at) + " of an argument of " + std::to_string(bytes) + " bytes");
  }
}

void SyncThreads() {
  Block& block = ThisBlock();
  if (!block.inside) Fault("a thread waits at __syncthreads() where thread 0 of its block did not");
  block.scheduler = std::move(block.scheduler).resume();
}

void RunBlock(unsigned threads, void (*body)(const void*), const void* argument) {
  context::fiber first = NewFiber(body, argument);
  if (!Run(&first, 0)) {
    for (unsigned k = 1; k < threads; ++k) {
      threadIdx = {k, 0, 0};
      body(argument);
    }
    return;
  }
  std::vector<context::fiber> fibers(threads);
  fibers[0] = std::move(first);
  for (unsigned k = 1; k < threads; ++k) {
    fibers[k] = NewFiber(body, argument);
    if (!Run(&fibers[k], k)) Fault("a thread of a block ended where thread 0 waits at __syncthreads()");
  }
  RunInStep(&fibers);
}

}  // namespace rehearsal
