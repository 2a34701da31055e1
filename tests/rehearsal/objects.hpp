// A test tool. What the stand-ins hand out (streams, events, handles, descriptors, communicators), so that
// one that was destroyed, or never was one, is seen when it is used.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "machine.hpp"

namespace rehearsal {

struct Object {
  bool live = true;
};

// All that was ever made of a kind. Nothing is taken out again: an object that was destroyed is told from
// one that lives, and from an address that never was one.
template <class T>
struct Registry {
  std::mutex mutex;
  std::unordered_map<const T*, std::unique_ptr<T>> made;
};
template <class T>
Registry<T>& TheRegistry() {
  static auto& registry = *new Registry<T>;  // objects of static duration may still destroy theirs
  return registry;
}

template <class T>
T* Make() {
  auto object = std::make_unique<T>();
  T* address = object.get();
  const std::lock_guard lock(TheRegistry<T>().mutex);
  TheRegistry<T>().made.emplace(address, std::move(object));
  return address;
}

// The object, a Fault unless it was made and not destroyed.
template <class T>
T& Live(T* object, const char* call, const char* argument) {
  const std::lock_guard lock(TheRegistry<T>().mutex);
  const auto found = TheRegistry<T>().made.find(object);
  if (found == TheRegistry<T>().made.end())
    Fault(std::string(call) + ": " + argument + " is no object of this kind that was ever made");
  if (!object->live) Fault(std::string(call) + ": " + argument + " was destroyed before");
  return *object;
}

template <class T>
void Destroy(T* object, const char* call, const char* argument) {
  Live(object, call, argument).live = false;
}

// A library's handle: of one GPU, with the stream that its calls go to.
struct LibraryHandle : Object {
  int gpu = CurrentGpu();
  cudaStream_t stream = nullptr;
};

// The stream of a handle; a Fault unless the handle lives, has one and is of the calling thread's GPU.
template <class T>
cudaStream_t StreamOf(T* handle, const char* call) {
  const LibraryHandle& found = Live(handle, call, "the handle");
  if (found.gpu != CurrentGpu()) Fault(std::string(call) + ": a handle of another GPU than the thread's own");
  if (found.stream == nullptr) Fault(std::string(call) + ": the handle has no stream");
  return found.stream;
}

template <class T>
void SetStream(T* handle, cudaStream_t stream, const char* call) {
  LibraryHandle& found = Live(handle, call, "the handle");
  if (GpuOf(stream, call) != found.gpu)
    Fault(std::string(call) + ": a stream of another GPU than the handle's");
  found.stream = stream;
}

}  // namespace rehearsal
