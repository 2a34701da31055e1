// A test tool: imaginary GPUs on the CPU, for the stand-ins of NVIDIA's libraries beside this file. Nothing
// of it is part of a release. They are stricter than the libraries: what is merely undefined there is a Fault
// here.
//
//  * Each stream has a thread of its own that executes what it was given: late, with pauses at random, so
//    that work that ought to wait for an event, and does not, finds what was there before.
//  * A GPU's memory is closed to every other thread, by the processor's protection keys (on a processor
//    without them, while all GPUs rest; the machine says so once). It is opened when the stream reaches the
//    allocation, filled with bytes 0xFF (not a number), ends at a page that is never opened, and is closed
//    when the stream reaches the freeing; no address is given twice.
//
// Environment: CREMA_REHEARSAL_GPUS (how many there are: 4), CREMA_REHEARSAL_MEMORY_MB (of each: 16384),
// CREMA_REHEARSAL_SEED (of the streams' pauses: 0).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include <cuda_runtime_api.h>

namespace rehearsal {

// Prints "rehearsal: <what>" and aborts the process.
[[noreturn]] void Fault(const std::string& what);

// Work for a stream of the calling thread's GPU (a Fault for another one's): runs later, on the stream's
// thread, with the GPU's memory open. `call` is named in Faults.
void Enqueue(cudaStream_t stream, const char* call, std::function<void()> work);

// A Fault unless [from, from + bytes) lies in one piece of memory of this stream's GPU that has been
// allocated and, by the calls so far, not freed. To be called where the work is enqueued.
void CheckOnGpu(cudaStream_t stream, const char* call, const char* argument, const void* from, int64_t bytes);
// Whether an address is in some GPU's memory.
bool IsOnGpu(const void* address);
// Whether [from, from + bytes) is pinned memory of the host.
bool IsPinned(const void* from, int64_t bytes);
// A Fault where an address is in a GPU's memory (what the host is to read there and then, such as a factor).
void CheckOnHost(const char* call, const char* argument, const void* address);
// A Fault unless an address is a multiple of so many bytes.
void CheckAligned(const char* call, const char* argument, const void* address, int64_t bytes);
// Whether two ranges of bytes share some.
bool Overlap(const void* a, int64_t a_bytes, const void* b, int64_t b_bytes);
// The GPU of a stream; a Fault where the stream is none, or destroyed.
int GpuOf(cudaStream_t stream, const char* call);
// The calling thread's GPU.
int CurrentGpu();

// ------------------------------------------------------------------------ of the runtime's stand-in alone
int GpuCount();
int64_t MemoryOfGpu();  // bytes
int64_t MemoryUsed(int gpu);
int64_t MostMemoryUsed(int gpu);  // at a time, so far
void SetCurrentGpu(int gpu);

cudaStream_t NewStream();
void DestroyStream(cudaStream_t stream);
void Synchronize(cudaStream_t stream);  // the host waits
int64_t WaitsOfThisThread();            // how often it has, for what was not done yet

cudaEvent_t NewEvent();
void DestroyEvent(cudaEvent_t event);
void Record(cudaEvent_t event, cudaStream_t stream);
void WaitFor(cudaStream_t stream, cudaEvent_t event);  // what the stream is given from now on waits
void Synchronize(cudaEvent_t event);
bool HasCome(cudaEvent_t event);

void* Allocate(cudaStream_t stream, int64_t bytes);  // null where the GPU's memory is used up
void Free(cudaStream_t stream, void* memory);

}  // namespace rehearsal
