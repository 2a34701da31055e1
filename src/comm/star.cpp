#include "comm/star.hpp"

#include <poll.h>

#include <algorithm>
#include <thread>

#include "crema/error.hpp"

namespace crema {
namespace {

enum Kind : uint32_t { kHello = 1, kWelcome, kCall, kReason };

// What a message begins with; `text_bytes` of text and `data_bytes` of data follow.
struct Header {
  static constexpr uint32_t kMagic = 0x616d7243;  // "Crma" where numbers begin with their last byte
  uint32_t magic = kMagic, kind = 0;
  int64_t text_bytes = 0, data_bytes = 0;
};

bool SendMessage(const Socket& socket, Kind kind, const std::string& text, Sent data,
                 const Socket::Wait& wait) {
  Header header;
  header.kind = kind;
  header.text_bytes = static_cast<int64_t>(text.size()), header.data_bytes = data.bytes;
  std::string begin(reinterpret_cast<const char*>(&header), sizeof(header));
  begin += text;
  return socket.Send(begin.data(), static_cast<int64_t>(begin.size()), wait) &&
         socket.Send(data.data, data.bytes, wait);
}

// All of a message but its data; false where there is none to come.
bool ReceiveMessage(const Socket& socket, Header* header, std::string* text, const Socket::Wait& wait) {
  constexpr int64_t kLongest = 1 << 20;  // of a text
  if (!socket.Receive(header, sizeof(*header), wait) || header->magic != Header::kMagic) return false;
  if (header->text_bytes < 0 || header->text_bytes > kLongest || header->data_bytes < 0) return false;
  text->resize(static_cast<size_t>(header->text_bytes));
  return socket.Receive(text->data(), header->text_bytes, wait);
}

// Seconds in which a rank says who it is, or takes the reason for an end.
constexpr double kBrief = 2;
// After which Abort() is noticed by a thread that waits.
constexpr int kMilliseconds = 100;

}  // namespace

// The data of the first message, from a rank to rank 0.
struct Star::Hello {
  static constexpr int32_t kVersion = 1;  // of what the ranks tell each other
  int32_t version = kVersion, size = 0, rank = 0;
};

struct Star::Gone {
  int rank;
};
struct Star::Aborted {};

// Does what needs the connections; where that fails, it is the end of the job.
template <class F>
void Star::Guard(const F& f) {
  const std::lock_guard lock(mutex_);
  if (!broken_.empty()) throw Error(broken_);
  try {
    return f();
  } catch (const Gone& gone) {
    Break(ReasonOf(gone.rank));
  } catch (const Aborted&) {
    Fail("rank ", rank_, " has ended the job.");
  } catch (const Error& error) {
    Break(error.what());
  }
  throw Error(broken_);
}

Star::Star(int rank, int size, const std::string& address, int port, double patience)
    : rank_(rank), size_(size), peers_(static_cast<size_t>(rank == 0 ? size : 1)) {
  Guard([&] { rank == 0 ? Gather(port, patience) : Join(address, port, patience); });
  Exchange("the start of the job", {}, {});
}

// Rank 0: waits for all the others.
void Star::Gather(int port, double patience) {
  const Deadline deadline = After(patience);
  peer(0) = Listen(port);
  for (int missing = size_ - 1; missing > 0;) {
    if (!Ready(0, POLLIN, deadline)) {
      std::string list;
      for (int r = 1; r < size_; ++r) list += peer(r).open() ? "" : Concat(list.empty() ? "" : ", ", r);
      Fail("rank 0 has waited on port ", port, " for ", patience, " s for rank ", list, "; expected ", size_,
           " processes in all (WORLD_SIZE), each with another RANK");
    }
    Admit(Accept(peer(0)), port, deadline, &missing);
  }
  peer(0) = Socket();
}

// One that has connected to rank 0: a rank, or something that is none of its business.
void Star::Admit(Socket newcomer, int port, Deadline deadline, int* missing) {
  if (!newcomer.open()) return;
  const Socket::Wait wait = newcomer.Until(std::min(deadline, After(kBrief)));
  Header header;
  Hello hello;
  std::string text;
  if (!ReceiveMessage(newcomer, &header, &text, wait) || header.kind != kHello ||
      header.data_bytes != sizeof(hello) || !newcomer.Receive(&hello, sizeof(hello), wait))
    return;
  const std::string wrong = WrongIn(hello, port);
  SendMessage(newcomer, wrong.empty() ? kWelcome : kReason, wrong, {}, wait);
  if (!wrong.empty()) Fail(wrong);
  peer(hello.rank) = std::move(newcomer);
  --*missing;
}

// Why a process cannot be a rank of this job; empty: it can.
std::string Star::WrongIn(const Hello& hello, int port) {
  if (hello.version != Hello::kVersion)
    return Concat("a rank with another version of Crema came to port ", port,
                  "; expected the same on all ranks");
  if (hello.size != size_)
    return Concat(
        "rank ", hello.rank, " of a job of ", hello.size, " came to port ", port,
        ", where rank 0 of a job of ", size_,
        " listens; expected the same WORLD_SIZE on all ranks, and another MASTER_PORT for each job");
  if (hello.rank < 1 || hello.rank >= size_)
    return Concat("rank ", hello.rank, " came to port ", port, "; expected ranks 1 to ", size_ - 1);
  if (peer(hello.rank).open())
    return Concat("two processes came as rank ", hello.rank, " to port ", port,
                  "; expected another RANK for each");
  return {};
}

// Every other rank: finds rank 0, which may start later.
void Star::Join(const std::string& address, int port, double patience) {
  const Deadline deadline = After(patience);
  constexpr std::chrono::milliseconds kPause(100);
  for (std::string trouble;;) {
    Socket socket = Connect(address, port, deadline, &trouble);
    if (socket.open()) {
      const Socket::Wait wait = socket.Until(deadline);
      const Hello hello{Hello::kVersion, size_, rank_};
      Header header;
      std::string text;
      const bool answered = SendMessage(socket, kHello, "", {&hello, sizeof(hello)}, wait) &&
                            ReceiveMessage(socket, &header, &text, wait);
      if (answered && header.kind == kReason) Fail(text);
      if (answered && header.kind == kWelcome) {
        peer(0) = std::move(socket);
        return;
      }
      trouble = "what listens there does not answer as rank 0 would";
    }
    if (std::chrono::steady_clock::now() + kPause > deadline)
      Fail("rank ", rank_, " has not found rank 0 of its job of ", size_, " at ", address,
           " (MASTER_ADDR), port ", port, " (MASTER_PORT), for ", patience, " s: ", trouble,
           "; expected rank 0 to listen there");
    std::this_thread::sleep_for(kPause);
  }
}

// Waits until a rank's socket is ready; false where the time is over. Rank 0, while it waits for what one
// rank sends, notices the end of any.
bool Star::Ready(int r, short event, Deadline deadline) {
  std::vector<pollfd> all;
  for (size_t p = 0; p < peers_.size(); ++p) {
    const bool is_it = static_cast<int>(p) == r, sends = event == POLLOUT;
    // What is being sent must not end in its middle for another rank's sake.
    const int descriptor = is_it || !sends ? peers_[p].descriptor() : -1;
    const int events = !is_it ? POLLRDHUP : sends ? POLLOUT | POLLRDHUP : event;
    all.push_back({descriptor, static_cast<short>(events), 0});
  }
  for (;;) {
    if (aborted_) throw Aborted();
    const auto left = std::chrono::duration<double>(deadline - std::chrono::steady_clock::now()).count();
    const int milliseconds = static_cast<int>(std::clamp<double>(left * 1e3, 0, kMilliseconds));
    if (poll(all.data(), all.size(), milliseconds) > 0) {
      for (size_t p = 0; p < all.size(); ++p) {
        const bool is_it = static_cast<int>(p) == r;
        const bool ended = (all[p].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
        // What was sent before the end of a connection is there to be received.
        if (ended && (!is_it || event == POLLOUT)) throw Gone{static_cast<int>(p)};
      }
      if (r != kNobody && all[static_cast<size_t>(r)].revents != 0) return true;
    }
    if (left <= 0) return false;
  }
}

Socket::Wait Star::Waiting(int r) {
  return [this, r](short event) { return Ready(r, event); };
}

void Star::SendTo(int r, const std::string& call, Sent data) {
  if (!SendMessage(peer(r), kCall, call, data, Waiting(r))) throw Gone{r};
}

void Star::ReceiveFrom(int r, const std::string& call, Received into) {
  Header header;
  std::string text;
  if (!ReceiveMessage(peer(r), &header, &text, Waiting(r))) throw Gone{r};
  if (header.kind == kReason) Fail(text);
  Require(text == call, "rank ", rank_, " called ", call, " while rank ", r, " called ", text, ".");
  Require(header.data_bytes == into.bytes, "rank ", r, " sent ", header.data_bytes, " bytes for ", call,
          " where ", into.bytes, " were expected.");
  if (!peer(r).Receive(into.data, into.bytes, Waiting(r))) throw Gone{r};
}

void Star::Exchange(const std::string& call, Sent mine, Received answer,
                    const std::function<Received(int)>& into, const std::function<void()>& work,
                    const std::function<Sent(int)>& answer_to) {
  Guard([&] {
    if (rank_ != 0) {
      SendTo(0, call, mine);
      return ReceiveFrom(0, call, answer);
    }
    for (int r = 1; r < size_; ++r) ReceiveFrom(r, call, into(r));
    work();
    for (int r = 1; r < size_; ++r) SendTo(r, call, answer_to(r));
  });
}

bool Star::Abort(const std::string& message) {
  if (aborted_.exchange(true)) return false;
  const std::lock_guard lock(mutex_);  // which an Exchange() under way gives back within kMilliseconds
  if (!broken()) Break(Concat("rank ", rank_, " failed: ", message));
  return true;
}

std::string Star::Trouble() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return {};  // the thread that is in an Exchange() will see it
  try {
    if (!broken()) Ready(kNobody, POLLIN, After(0));
  } catch (const Gone& gone) {
    Break(ReasonOf(gone.rank));
  } catch (const Aborted&) {  // by a thread that waits for this one
  }
  return broken_;
}

// Why a rank's connection has ended. Its last word, where it had one, lies behind what it had sent before.
std::string Star::ReasonOf(int r) {
  const Socket::Wait never = [](short) { return false; };
  Header header;
  std::string text;
  char skipped[4096];
  while (ReceiveMessage(peer(r), &header, &text, never)) {
    if (header.kind == kReason) return text;
    for (int64_t left = header.data_bytes; left > 0; left -= sizeof(skipped))
      if (!peer(r).Receive(skipped, std::min<int64_t>(left, sizeof(skipped)), never)) break;
  }
  return Concat("rank ", r, " is gone: its connection has ended, as it does when a process is killed");
}

// No collective will succeed any more; tells all that are connected.
void Star::Break(const std::string& reason) {
  broken_ = reason;
  for (size_t p = 0; p < peers_.size(); ++p) {
    if (!peers_[p].open() || static_cast<int>(p) == rank_) continue;
    SendMessage(peers_[p], kReason, reason, {}, peers_[p].Until(After(kBrief)));
    peers_[p].EndSending();
  }
}

}  // namespace crema
