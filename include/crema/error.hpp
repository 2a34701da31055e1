// Floor 0. The error that bad input raises, and how to raise it. Anyone may call it.
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

namespace crema {

// Bad input: a file, a flag, a prototxt, a record or a shape. what() is one full sentence that names the
// place, what was found and what was expected. Tools print it on one line and exit with code 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A device, or a library on it, has failed. A net adds in which layer.
class DeviceError : public Error {
 public:
  using Error::Error;
};

// A device has not the memory that was asked for.
class OutOfMemory final : public DeviceError {
 public:
  OutOfMemory(const std::string& what, int64_t bytes) : DeviceError(what), device_bytes(bytes) {}
  int64_t device_bytes;  // all that the device has
};

// The parts, written one after another.
template <class... Parts>
std::string Concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <class... Parts>
[[noreturn]] void Fail(const Parts&... parts) {
  throw Error(Concat(parts...));
}

// Throws Error unless `ok`.
template <class... Parts>
void Require(bool ok, const Parts&... parts) {
  if (!ok) Fail(parts...);
}

}  // namespace crema
