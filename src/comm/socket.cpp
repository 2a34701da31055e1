#include "comm/socket.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "crema/error.hpp"

namespace crema {
namespace {

void SetOption(const Socket& socket, int level, int name, int value) {
  setsockopt(socket.descriptor(), level, name, &value, sizeof(value));  // none is needed to be right
}

// Short messages leave at once, and a machine that vanishes without a word is noticed within a minute.
void SetOptions(const Socket& socket) {
  SetOption(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(socket, IPPROTO_TCP, TCP_KEEPIDLE, 30);
  SetOption(socket, IPPROTO_TCP, TCP_KEEPINTVL, 10);
  SetOption(socket, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

bool MustWait(ssize_t result) {
  return result < 0 && (errno == EAGAIN || errno == EINTR);
}

Socket NewSocket(int family) {
  return Socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

// To one of the addresses that a name has.
Socket ConnectTo(const addrinfo& address, Deadline deadline, std::string* trouble) {
  constexpr double kPerAddress = 5;  // seconds; the next one may answer where this one never will
  Socket socket = NewSocket(address.ai_family);
  int error = 0;
  socklen_t length = sizeof(error);
  if (!socket.open()) {
    error = errno;
  } else if (connect(socket.descriptor(), address.ai_addr, address.ai_addrlen) != 0) {
    if (errno != EINPROGRESS && errno != EINTR) {
      error = errno;
    } else if (!socket.Ready(POLLOUT, std::min(deadline, After(kPerAddress)))) {
      error = ETIMEDOUT;
    } else {
      getsockopt(socket.descriptor(), SOL_SOCKET, SO_ERROR, &error, &length);
    }
  }
  if (error == 0) {
    SetOptions(socket);
    return socket;
  }
  *trouble = std::strerror(error);
  return {};
}

}  // namespace

Deadline After(double seconds) {
  return std::chrono::steady_clock::now() +
         std::chrono::duration_cast<Deadline::duration>(std::chrono::duration<double>(seconds));
}

Socket::Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

Socket::~Socket() {
  if (open()) close(descriptor_);
}

bool Socket::Send(const void* data, int64_t bytes, const Wait& wait) const {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t sent = send(descriptor_, from, static_cast<size_t>(bytes), MSG_NOSIGNAL);
    if (MustWait(sent)) {
      if (!wait(POLLOUT)) return false;
      continue;
    }
    if (sent < 0) return false;
    from += sent;
    bytes -= sent;
  }
  return true;
}

bool Socket::Receive(void* data, int64_t bytes, const Wait& wait) const {
  char* to = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t received = recv(descriptor_, to, static_cast<size_t>(bytes), 0);
    if (MustWait(received)) {
      if (!wait(POLLIN)) return false;
      continue;
    }
    if (received <= 0) return false;
    to += received;
    bytes -= received;
  }
  return true;
}

void Socket::EndSending() const {
  shutdown(descriptor_, SHUT_WR);
}

bool Socket::Ready(short event, Deadline deadline) const {
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd wanted{descriptor_, event, 0};
    const int count = poll(&wanted, 1, static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1000)));
    if (count > 0) return true;
    if (left.count() <= 0) return false;
  }
}

Socket::Wait Socket::Until(Deadline deadline) const {
  return [this, deadline](short event) { return Ready(event, deadline); };
}

Socket Listen(int port) {
  int error = 0;
  // A socket of IPv6 takes IPv4 as well; the other is for machines without IPv6.
  for (int family : {AF_INET6, AF_INET}) {
    Socket socket = NewSocket(family);
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6, six.sin6_addr = in6addr_any,
    six.sin6_port = htons(static_cast<uint16_t>(port));
    sockaddr_in four{};
    four.sin_family = AF_INET, four.sin_addr.s_addr = INADDR_ANY, four.sin_port = six.sin6_port;
    const bool is_six = family == AF_INET6;
    const sockaddr* address =
        is_six ? reinterpret_cast<const sockaddr*>(&six) : reinterpret_cast<const sockaddr*>(&four);
    SetOption(socket, SOL_SOCKET, SO_REUSEADDR, 1);  // a job may follow another at once
    if (is_six) SetOption(socket, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (socket.open() && bind(socket.descriptor(), address, is_six ? sizeof(six) : sizeof(four)) == 0 &&
        listen(socket.descriptor(), SOMAXCONN) == 0)
      return socket;
    error = errno;
    if (error == EADDRINUSE || error == EACCES) break;
  }
  Fail("rank 0 cannot listen on port ", port, ": ", std::strerror(error),
       "; expected a port that no other program has, the same on all ranks");
}

Socket Accept(const Socket& listener) {
  Socket socket(accept4(listener.descriptor(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket.open()) SetOptions(socket);
  return socket;
}

Socket Connect(const std::string& address, int port, Deadline deadline, std::string* trouble) {
  addrinfo wanted{}, *found = nullptr;
  wanted.ai_family = AF_UNSPEC;
  wanted.ai_socktype = SOCK_STREAM;
  const int code = getaddrinfo(address.c_str(), std::to_string(port).c_str(), &wanted, &found);
  if (code != 0) {
    *trouble = gai_strerror(code);
    return {};
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    Socket socket = ConnectTo(*each, deadline, trouble);
    if (socket.open()) return socket;
  }
  return {};
}

}  // namespace crema
