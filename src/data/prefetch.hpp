// Floor 3, the data wing. Numbered items made ahead by threads and taken in order. Called by this wing and by
// tools.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace crema {

template <class T>
class Prefetch {
 public:
  // make(index, item) fills an item that may have been used before; several threads call it at once. At most
  // `ahead` items (at least one) are made or waiting at a time; items from `end` on are not made.
  Prefetch(std::function<void(int64_t, T*)> make, int threads, int64_t ahead,
           int64_t end = std::numeric_limits<int64_t>::max())
      : make_(std::move(make)), ahead_(ahead < 1 ? 1 : ahead), end_(end) {
    for (int k = 0; k < threads || k == 0; ++k)
      threads_.emplace_back([this](std::stop_token stop) { Work(stop); });
  }
  Prefetch(const Prefetch&) = delete;

  // Item `index` < end, valid until the next call; throws what its making threw. An index that does not
  // follow the last one starts anew from there. For one thread.
  T& Get(int64_t index) {
    std::unique_lock lock(mutex_);
    if (taken_ != nullptr) spare_.push_back(std::move(taken_));
    if (index != next_taken_) {
      ++generation_;  // what is being made for the old place is dropped
      for (auto& [made_index, slot] : made_) spare_.push_back(std::move(slot));
      made_.clear();
      next_made_ = next_taken_ = index;
    }
    wanted_.notify_all();
    available_.wait(lock, [&] { return made_.count(index) > 0; });
    taken_ = std::move(made_.extract(index).mapped());
    ++next_taken_;
    wanted_.notify_all();
    if (taken_->error) std::rethrow_exception(taken_->error);
    return taken_->item;
  }

 private:
  struct Slot {
    T item;
    std::exception_ptr error;
  };

  void Work(std::stop_token stop) {
    std::unique_lock lock(mutex_);
    while (wanted_.wait(lock, stop, [&] { return next_made_ < end_ && next_made_ - next_taken_ < ahead_; })) {
      const int64_t index = next_made_++, generation = generation_;
      std::unique_ptr<Slot> slot = TakeSpare();
      lock.unlock();
      Fill(index, slot.get());
      lock.lock();
      if (generation == generation_) {
        made_[index] = std::move(slot);
        available_.notify_one();
      } else {
        spare_.push_back(std::move(slot));
      }
    }
  }

  std::unique_ptr<Slot> TakeSpare() {
    if (spare_.empty()) return std::make_unique<Slot>();
    std::unique_ptr<Slot> slot = std::move(spare_.back());
    spare_.pop_back();
    return slot;
  }

  void Fill(int64_t index, Slot* slot) {
    slot->error = nullptr;
    try {
      make_(index, &slot->item);
    } catch (...) {
      slot->error = std::current_exception();
    }
  }

  std::function<void(int64_t, T*)> make_;
  int64_t ahead_, end_;
  std::mutex mutex_;
  std::condition_variable_any wanted_;
  std::condition_variable available_;
  int64_t next_made_ = 0, next_taken_ = 0, generation_ = 0;
  std::map<int64_t, std::unique_ptr<Slot>> made_;
  std::vector<std::unique_ptr<Slot>> spare_;
  std::unique_ptr<Slot> taken_;
  std::vector<std::jthread> threads_;  // last, so that they end first
};

}  // namespace crema
