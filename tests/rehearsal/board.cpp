#include "board.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "machine.hpp"

namespace rehearsal {
namespace {

class Lock {
 public:
  explicit Lock(Board* board) : board_(board) { pthread_mutex_lock(&board->mutex); }
  ~Lock() { pthread_mutex_unlock(&board_->mutex); }
  Lock(const Lock&) = delete;
  // Woken by others, or after a moment.
  void Wait() {
    timespec until{};
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20'000'000;
    if (until.tv_nsec >= 1'000'000'000) ++until.tv_sec, until.tv_nsec -= 1'000'000'000;
    pthread_cond_timedwait(&board_->met, &board_->mutex, &until);
  }

 private:
  Board* board_;
};

Board* Open(const std::string& name, int flags) {
  const int file = shm_open(name.c_str(), flags, 0600);
  if (file < 0) Fault("NCCL's stand-in cannot open shared memory " + name + ": " + std::strerror(errno));
  if ((flags & O_CREAT) != 0 && ftruncate(file, sizeof(Board)) != 0) Fault("no room for shared memory");
  void* memory = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) Fault("NCCL's stand-in cannot map its shared memory");
  return static_cast<Board*>(memory);
}

}  // namespace

void MakeBoard(const std::string& name) {
  Board* board = Open(name, O_RDWR | O_CREAT | O_EXCL);
  pthread_mutexattr_t mutex{};
  pthread_mutexattr_init(&mutex);
  pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(&board->mutex, &mutex);
  pthread_condattr_t condition{};
  pthread_condattr_init(&condition);
  pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
  pthread_cond_init(&board->met, &condition);
  munmap(board, sizeof(Board));
}

Board* JoinBoard(const std::string& name, int size) {
  Board* board = Open(name, O_RDWR);
  Lock lock(board);
  if (board->joined == 0) board->size = size;
  if (board->size != size)
    Fault("ncclCommInitRank: " + std::to_string(size) + " ranks where another rank said " +
          std::to_string(board->size));
  if (++board->joined == size) {
    shm_unlink(name.c_str());
    pthread_cond_broadcast(&board->met);
  }
  while (board->joined < size) lock.Wait();
  return board;
}

bool Meet(Board* board, const std::atomic<bool>& aborted) {
  Lock lock(board);
  if (aborted) return false;  // a collective that was queued behind the one that was under way
  const int64_t generation = board->generation;
  if (++board->arrived == board->size) {
    board->arrived = 0;
    ++board->generation;
    pthread_cond_broadcast(&board->met);
    return true;
  }
  while (board->generation == generation) {
    if (aborted) {
      --board->arrived;
      return false;
    }
    lock.Wait();
  }
  return true;
}

}  // namespace rehearsal
