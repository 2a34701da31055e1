// Floor 2, inside src/comm. A TCP connection and how it comes about. Called by tcp.cpp alone.
#pragma once

#include <chrono>
#include <functional>
#include <string>

namespace crema {

using Deadline = std::chrono::steady_clock::time_point;
// So many seconds from now.
Deadline After(double seconds);

// Owns the descriptor of a TCP socket that does not block; -1 where there is none.
class Socket {
 public:
  // Returns once the socket can be read (POLLIN) or written (POLLOUT); false, or an exception, gives up.
  using Wait = std::function<bool(short event)>;

  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();

  int descriptor() const { return descriptor_; }
  bool open() const { return descriptor_ >= 0; }

  // All of the bytes; false where the connection has ended, or waiting was given up, before.
  bool Send(const void* data, int64_t bytes, const Wait& wait) const;
  bool Receive(void* data, int64_t bytes, const Wait& wait) const;
  // Nothing more will be sent: the other side notices, and can read what was sent before.
  void EndSending() const;

  // Waits for POLLIN or POLLOUT; false where the time is over.
  bool Ready(short event, Deadline deadline) const;
  // The same as a Wait; of a socket that outlives it.
  Wait Until(Deadline deadline) const;

 private:
  int descriptor_ = -1;
};

// Listens on this port of all of this machine's addresses. Throws Error where it cannot.
Socket Listen(int port);
// The next one to connect to a listener; none where there is none yet.
Socket Accept(const Socket& listener);
// A connection to "example.org" or a number of IPv4 or IPv6; where there is none, `trouble` says why.
Socket Connect(const std::string& address, int port, Deadline deadline, std::string* trouble);

}  // namespace crema
