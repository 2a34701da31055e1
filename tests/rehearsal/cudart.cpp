// A test tool. CUDA's runtime, as far as Crema calls it, over the imaginary GPUs of machine.hpp.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "machine.hpp"

namespace {

using rehearsal::Fault;

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t Return(cudaError_t status) {
  if (status != cudaSuccess) last_error = status;
  return status;
}

// Pinned memory of the host, by address.
struct Pinned {
  std::mutex mutex;
  std::map<const char*, size_t> pieces;
};
Pinned& PinnedMemory() {
  static auto* pinned = new Pinned;
  return *pinned;
}

// What is to run later may only read or write memory of the stream's GPU, or of the host where that is
// pinned: CUDA would copy other memory of the host at once, and not asynchronously.
void CheckReachable(cudaStream_t stream, const char* call, const char* argument, const void* from,
                    size_t bytes) {
  if (rehearsal::IsOnGpu(from))
    return rehearsal::CheckOnGpu(stream, call, argument, from, static_cast<int64_t>(bytes));
  if (rehearsal::IsPinned(from, static_cast<int64_t>(bytes))) return;
  Fault(std::string(call) + ": " + argument +
        " is neither on the GPU nor in pinned memory, or ends outside it");
}

void CheckDeviceIndex(const char* call, int index) {
  if (index < 0 || index >= rehearsal::GpuCount())
    Fault(std::string(call) + ": there is no GPU " + std::to_string(index));
}

}  // namespace

bool rehearsal::IsPinned(const void* from, int64_t bytes) {
  Pinned& pinned = PinnedMemory();
  const std::lock_guard lock(pinned.mutex);
  const char* begin = static_cast<const char*>(from);
  auto next = pinned.pieces.upper_bound(begin);
  if (next == pinned.pieces.begin()) return false;
  --next;
  return begin + bytes <= next->first + next->second;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = rehearsal::GpuCount();
  return Return(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int index) {
  if (index < 0 || index >= rehearsal::GpuCount()) return Return(cudaErrorInvalidDevice);
  rehearsal::SetCurrentGpu(index);
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* index) {
  *index = rehearsal::CurrentGpu();
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  CheckDeviceIndex("cudaGetDeviceProperties", index);
  *properties = {};
  std::strcpy(properties->name, "imaginary GPU of the rehearsal");
  properties->major = 8;
  properties->multiProcessorCount = 1;
  properties->totalGlobalMem = static_cast<size_t>(rehearsal::MemoryOfGpu());
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = static_cast<size_t>(rehearsal::MemoryOfGpu());
  *free = *total - static_cast<size_t>(rehearsal::MemoryUsed(rehearsal::CurrentGpu()));
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t status = last_error;
  last_error = cudaSuccess;
  return status;
}
const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    default:
      return "an error of the rehearsal";
  }
}
const char* cudaGetErrorName(cudaError_t status) {
  return status == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}

// -------------------------------------------------------------------------------------- streams, events
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (flags != cudaStreamNonBlocking)
    Fault("cudaStreamCreateWithFlags: a stream that the default stream holds up");
  *stream = rehearsal::NewStream();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  rehearsal::DestroyStream(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  rehearsal::Synchronize(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  rehearsal::WaitFor(stream, event);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = rehearsal::NewEvent();
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  rehearsal::DestroyEvent(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  rehearsal::Record(event, stream);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return rehearsal::HasCome(event) ? cudaSuccess : cudaErrorNotReady;  // which is no error to be remembered
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  rehearsal::Synchronize(event);
  return cudaSuccess;
}

// ----------------------------------------------------------------------------------------------- memory
cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  *memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (*memory == nullptr) return Return(cudaErrorMemoryAllocation);
  std::memset(*memory, 0xFF, std::min<size_t>(bytes, 1 << 16));  // all of it would take too long
  Pinned& pinned = PinnedMemory();
  const std::lock_guard lock(pinned.mutex);
  pinned.pieces[static_cast<char*>(*memory)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  Pinned& pinned = PinnedMemory();
  const std::lock_guard lock(pinned.mutex);
  if (pinned.pieces.erase(static_cast<char*>(memory)) == 0)
    Fault("cudaFreeHost: not pinned memory, or freed already");
  std::free(memory);
  return cudaSuccess;
}

// The pool is told to keep what is freed; there is no pool here.
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int index) {
  CheckDeviceIndex("cudaDeviceGetDefaultMemPool", index);
  *pool = reinterpret_cast<cudaMemPool_t>(static_cast<uintptr_t>(index + 1));
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  if (pool == nullptr || attribute != cudaMemPoolAttrReleaseThreshold || value == nullptr)
    Fault("cudaMemPoolSetAttribute: a use that the rehearsal does not know");
  return cudaSuccess;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  if (pool == nullptr || attribute != cudaMemPoolAttrUsedMemHigh || value == nullptr)
    Fault("cudaMemPoolGetAttribute: a use that the rehearsal does not know");
  const int gpu = static_cast<int>(reinterpret_cast<uintptr_t>(pool)) - 1;
  *static_cast<uint64_t*>(value) = static_cast<uint64_t>(rehearsal::MostMemoryUsed(gpu));
  return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t stream) {
  *memory = rehearsal::Allocate(stream, static_cast<int64_t>(bytes));
  return Return(*memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  rehearsal::Free(stream, memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  constexpr const char* kCall = "cudaMemcpyAsync";
  const int64_t size = static_cast<int64_t>(bytes);
  if (kind != cudaMemcpyDefault) Fault("cudaMemcpyAsync: a direction that the rehearsal does not know");
  CheckReachable(stream, kCall, "dst", to, bytes);
  CheckReachable(stream, kCall, "src", from, bytes);
  if (rehearsal::Overlap(to, size, from, size)) Fault("cudaMemcpyAsync: dst and src overlap");
  rehearsal::Enqueue(stream, kCall, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  CheckReachable(stream, "cudaMemsetAsync", "devPtr", to, bytes);
  rehearsal::Enqueue(stream, "cudaMemsetAsync", [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}
