// What every communicator must do, run on each rank: collectives against plain loops over what each rank is
// known to have brought. Used by comm_test and mpi_comm_test.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "crema/comm.hpp"
#include "crema/device.hpp"
#include "crema/float16.hpp"
#include "test_place.hpp"

namespace crema {

// Element i of rank r: exact in every type, so that sums in any order are equal.
template <class T>
T NumberOf(int rank, int64_t i) {
  return static_cast<T>((rank + 1) * 100 + i % 37 - 50);
}

template <class T>
std::vector<T> NumbersOf(int rank, int64_t begin, int64_t end) {
  std::vector<T> numbers;
  for (int64_t i = begin; i < end; ++i) numbers.push_back(NumberOf<T>(rank, i));
  return numbers;
}

template <class T>
Tensor NewTensor(Device& device, Shape shape, const std::vector<T>& values) {
  Tensor tensor(device, DTypeOf<T>(), std::move(shape));
  tensor.FromHost(values);
  return tensor;
}

// Numbers whose sum depends on its order.
inline Tensor RoughNumbers(Device& device, int rank, int64_t count) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) {
    values.push_back(std::sin(static_cast<float>(i * 7 + rank * 3 + 1)) * std::exp(static_cast<float>(rank)));
  }
  return NewTensor(device, {count}, values);
}

template <class T>
std::vector<T> Reduced(int ranks, Reduce op, int64_t begin, int64_t end) {
  std::vector<T> result = NumbersOf<T>(0, begin, end);
  for (int r = 1; r < ranks; ++r) {
    const std::vector<T> other = NumbersOf<T>(r, begin, end);
    for (size_t i = 0; i < result.size(); ++i) {
      result[i] = op == Reduce::kSum ? result[i] + other[i] : std::max(result[i], other[i]);
    }
  }
  return result;
}

template <class T>
void CheckReductions(Communicator& comm, Device& device) {
  for (int64_t count : {int64_t{0}, int64_t{1}, int64_t{3}, int64_t{1000}, int64_t{70001}}) {
    for (Reduce op : {Reduce::kSum, Reduce::kMax}) {
      Tensor t = NewTensor(device, {count}, NumbersOf<T>(comm.rank(), 0, count));
      comm.AllReduce(&t, op);
      EXPECT_EQ(t.ToHost<T>(), Reduced<T>(comm.size(), op, 0, count));
    }
  }
  // Two under way at once, and another collective between them, waited for in the other order.
  Tensor a = NewTensor(device, {50, 10}, NumbersOf<T>(comm.rank(), 0, 500));
  Tensor b = NewTensor(device, {20}, NumbersOf<T>(comm.rank(), 0, 20));
  auto first = comm.StartAllReduce(&a, Reduce::kSum);
  auto second = comm.StartAllReduce(&b, Reduce::kMax);
  comm.Barrier();
  second->Wait();
  first->Wait();
  EXPECT_EQ(a.ToHost<T>(), Reduced<T>(comm.size(), Reduce::kSum, 0, 500));
  EXPECT_EQ(b.ToHost<T>(), Reduced<T>(comm.size(), Reduce::kMax, 0, 20));
}

// Numbers so small that their sums are exact in 16 bits too.
template <class T>
void CheckNarrowReductions(Communicator& comm, Device& device) {
  constexpr int64_t kCount = 3001;
  const auto number = [](int rank, int64_t i) { return static_cast<float>((rank + 1) * (i % 5 - 2)); };
  for (Reduce op : {Reduce::kSum, Reduce::kMax}) {
    std::vector<T> mine;
    std::vector<float> wanted, found;
    for (int64_t i = 0; i < kCount; ++i) {
      mine.push_back(T(number(comm.rank(), i)));
      float value = number(0, i);
      for (int r = 1; r < comm.size(); ++r)
        value = op == Reduce::kSum ? value + number(r, i) : std::max(value, number(r, i));
      wanted.push_back(value);
    }
    Tensor tensor = NewTensor(device, {kCount}, mine);
    comm.StartAllReduce(&tensor, op)->Wait();
    for (T value : tensor.ToHost<T>()) found.push_back(static_cast<float>(value));
    EXPECT_EQ(found, wanted);
  }
}

// Rank r has r * 2 % 5 rows: unequal, rank 0 none.
inline std::vector<int64_t> UnequalRows(int ranks) {
  std::vector<int64_t> rows;
  for (int r = 0; r < ranks; ++r) rows.push_back(r * 2 % 5);
  return rows;
}

template <class T>
void CheckRowExchanges(Communicator& comm, Device& device, const std::vector<int64_t>& rows, int64_t length) {
  const size_t me = static_cast<size_t>(comm.rank());
  const int64_t total = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  const int64_t first = std::accumulate(rows.begin(), rows.begin() + comm.rank(), int64_t{0});
  Tensor mine = NewTensor(device, {rows[me], length}, NumbersOf<T>(comm.rank(), 0, rows[me] * length));
  Tensor all(device, DTypeOf<T>(), {total, length});
  comm.AllGather(mine, rows, &all);
  std::vector<T> gathered;
  for (size_t r = 0; r < rows.size(); ++r) {
    const std::vector<T> part = NumbersOf<T>(static_cast<int>(r), 0, rows[r] * length);
    gathered.insert(gathered.end(), part.begin(), part.end());
  }
  EXPECT_EQ(all.ToHost<T>(), gathered);

  all.FromHost(NumbersOf<T>(comm.rank(), 0, total * length));
  mine.Zero();
  comm.ReduceScatter(all, rows, &mine);
  EXPECT_EQ(mine.ToHost<T>(),
            Reduced<T>(comm.size(), Reduce::kSum, first * length, (first + rows[me]) * length));
}

inline void CheckBroadcasts(Communicator& comm, Device& device) {
  for (int root : {0, comm.size() - 1}) {
    Tensor t = NewTensor(device, {3, 41}, NumbersOf<double>(comm.rank(), 0, 123));
    comm.Broadcast(&t, root);
    EXPECT_EQ(t.ToHost<double>(), NumbersOf<double>(root, 0, 123));
  }
}

inline void CheckNumbers(Communicator& comm) {
  const int64_t big = int64_t{1} << 40;
  std::vector<int64_t> expected;
  for (int r = 0; r < comm.size(); ++r) expected.push_back(big + r);
  EXPECT_EQ(comm.AllGatherNumber(big + comm.rank()), expected);
  // Rank r has r numbers.
  std::vector<int64_t> counts, all;
  for (int r = 0; r < comm.size(); ++r) {
    counts.push_back(r);
    all.insert(all.end(), static_cast<size_t>(r), big * r);
  }
  const std::vector<int64_t> mine(static_cast<size_t>(comm.rank()), big * comm.rank());
  EXPECT_EQ(comm.AllGatherNumbers(mine, counts), all);
  const std::vector<int64_t> too_many(mine.size() + 1);
  EXPECT_THROW(comm.AllGatherNumbers(too_many, counts), Error);
}

// A sum whose rounding depends on its order has the same bits everywhere.
inline void CheckSameBits(Communicator& comm, Device& device) {
  for (int64_t count : {int64_t{5}, int64_t{1001}, int64_t{300007}}) {
    Tensor t = RoughNumbers(device, comm.rank(), count);
    comm.AllReduce(&t, Reduce::kSum);
    std::vector<int64_t> rows(static_cast<size_t>(comm.size()), 1);
    Tensor all(device, DType::kF32, {comm.size(), count});
    comm.AllGather(t.Reshaped({1, count}), rows, &all);
    const std::vector<float> mine = t.ToHost<float>(), everyone = all.ToHost<float>();
    for (int r = 0; r < comm.size(); ++r) {
      EXPECT_TRUE(std::equal(mine.begin(), mine.end(), everyone.begin() + r * count)) << "rank " << r;
    }
  }
}

inline void CheckAllCollectives(Communicator& host) {
  TestPlace place(host);
  Communicator& comm = *place.context().comm;
  Device* device = place.context().device;
  CheckReductions<float>(comm, *device);
  CheckReductions<double>(comm, *device);
  CheckReductions<int64_t>(comm, *device);
  CheckNarrowReductions<BFloat16>(comm, *device);
  CheckNarrowReductions<Float16>(comm, *device);
  const std::vector<int64_t> equal(static_cast<size_t>(comm.size()), 3);
  for (const auto& rows : {equal, UnequalRows(comm.size())}) {
    for (int64_t length : {int64_t{1}, int64_t{7}, int64_t{5000}}) {
      CheckRowExchanges<float>(comm, *device, rows, length);
      CheckRowExchanges<double>(comm, *device, rows, length);
      CheckRowExchanges<int64_t>(comm, *device, rows, length);
    }
  }
  CheckBroadcasts(comm, *device);
  CheckNumbers(comm);
  CheckSameBits(comm, *device);
  comm.Barrier();
}

}  // namespace crema
