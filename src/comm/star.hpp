// Floor 2, inside src/comm. The connections of ranks that are processes, each with rank 0, and what goes to
// and fro. Called by tcp.cpp alone.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "comm/socket.hpp"

namespace crema {

// Memory whose bytes travel.
struct Sent {
  const void* data = nullptr;
  int64_t bytes = 0;
};
struct Received {
  void* data = nullptr;
  int64_t bytes = 0;
};

// A rank that gives up sends the reason as its last message, which rank 0 hands on; one that dies is known by
// the end of its connection. From then on all throws Error with that reason.
class Star {
 public:
  // Returns when all ranks are connected; throws Error where one has not come within `patience` seconds, or
  // does not fit.
  Star(int rank, int size, const std::string& address, int port, double patience);
  Star(const Star&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool broken() const { return !broken_.empty(); }

  // One collective, `call` in words. Each other rank sends rank 0 `mine` and gets `answer`. Rank 0 takes what
  // rank r sends into into(r), rank after rank, calls work() and sends answer_to(r). Throws Error where the
  // ranks do not agree on the call.
  void Exchange(
      const std::string& call, Sent mine, Received answer,
      const std::function<Received(int)>& into = [](int) { return Received{}; },
      const std::function<void()>& work = [] {},
      const std::function<Sent(int)>& answer_to = [](int) { return Sent{}; });

  // From any thread: ends the job, and an Exchange() of this rank that is under way. Only the first call does
  // something; false for others.
  bool Abort(const std::string& message);
  // From any thread: why the job has ended, as far as can be known without waiting.
  std::string Trouble();

 private:
  static constexpr int kNobody = -1;  // in place of a rank
  struct Hello;
  struct Gone;     // thrown: the connection to a rank has ended
  struct Aborted;  // thrown: by Abort() on another thread

  Socket& peer(int r) { return peers_[static_cast<size_t>(r)]; }
  template <class F>
  void Guard(const F& f);
  void Gather(int port, double patience);
  void Admit(Socket newcomer, int port, Deadline deadline, int* missing);
  std::string WrongIn(const Hello& hello, int port);
  void Join(const std::string& address, int port, double patience);
  bool Ready(int r, short event, Deadline deadline = Deadline::max());
  Socket::Wait Waiting(int r);
  void SendTo(int r, const std::string& call, Sent data);
  void ReceiveFrom(int r, const std::string& call, Received into);
  std::string ReasonOf(int r);
  void Break(const std::string& reason);

  int rank_, size_;
  std::vector<Socket> peers_;  // of rank 0: every other, and while it gathers them its listener; else rank 0
  std::mutex mutex_;           // of the connections and broken_
  std::string broken_;         // why all fails; empty: it does not
  std::atomic<bool> aborted_{false};
};

}  // namespace crema
