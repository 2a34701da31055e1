#include <algorithm>
#include <bit>

#include "crema/head.hpp"
#include "crema/permutation.hpp"
#include "crema/philox.hpp"

namespace crema {
namespace {

// A set of numbers below kSize.
template <int64_t kSize>
class Marks {
 public:
  // 1 where it is new.
  int64_t Set(int64_t i) {
    uint64_t& word = words_[i / 64];
    const uint64_t bit = uint64_t{1} << (i % 64);
    const int64_t is_new = (word & bit) == 0 ? 1 : 0;
    word |= bit;
    return is_new;
  }
  // f(i) for all in the set, in ascending order.
  template <class F>
  void ForEach(const F& f) const {
    for (int64_t k = 0; k < kSize / 64; ++k) {
      for (uint64_t rest = words_[k]; rest != 0; rest &= rest - 1) f(k * 64 + std::countr_zero(rest));
    }
  }

 private:
  uint64_t words_[kSize / 64] = {};
};

}  // namespace

Shard ShardOf(int64_t classes, int ranks, int rank) {
  const int64_t each = classes / ranks, more = classes % ranks;
  return {each * rank + std::min<int64_t>(more, rank), each + (rank < more ? 1 : 0)};
}

// Shares of cells add up to floor(rate * classes).
int64_t ClassDraw::Share(int64_t cell) const {
  const auto before = [&](int64_t c) {
    return static_cast<int64_t>(std::floor(rate_ * static_cast<double>(c)));
  };
  return before(CellEnd(cell)) - before(cell * kCell);
}

std::vector<int64_t> ClassDraw::Draw(const Shard& shard, int64_t iteration,
                                     std::vector<int64_t> labels) const {
  std::vector<int64_t> rows;
  if (shard.rows == 0) return rows;
  std::sort(labels.begin(), labels.end());
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  if (rate_ >= 1) {
    rows.resize(static_cast<size_t>(shard.rows));
    for (int64_t row = 0; row < shard.rows; ++row) rows[static_cast<size_t>(row)] = row;
    return rows;
  }
  const uint64_t key = MixBits(key_, static_cast<uint64_t>(iteration));
  const int64_t first_cell = shard.first / kCell, last_cell = (shard.first + shard.rows - 1) / kCell;
  std::vector<std::vector<int64_t>> parts(static_cast<size_t>(last_cell - first_cell + 1));
#pragma omp parallel for schedule(static)
  for (int64_t cell = first_cell; cell <= last_cell; ++cell) {
    const int64_t begin = cell * kCell, size = CellEnd(cell) - begin;
    Marks<kCell> drawn;
    int64_t count = 0;
    for (auto label = std::lower_bound(labels.begin(), labels.end(), begin);
         label != labels.end() && *label < begin + size; ++label)
      count += drawn.Set(*label - begin);
    const uint64_t cell_key = MixBits(key, static_cast<uint64_t>(cell));
    const Permutation blocks(cell_key, (size + block_ - 1) / block_);
    for (int64_t i = 0, share = Share(cell); count < share; ++i) {
      const int64_t first = blocks(i) * block_, length = std::min(block_, size - first);
      // The run starts anywhere in its block and goes on at its beginning.
      const int64_t start = length == 1 ? 0
                                        : static_cast<int64_t>(MixBits(cell_key, static_cast<uint64_t>(~i)) %
                                                               static_cast<uint64_t>(length));
      for (int64_t k = 0; k < length && count < share; ++k)
        count += drawn.Set(first + (start + k) % static_cast<uint64_t>(length));
    }
    std::vector<int64_t>& part = parts[static_cast<size_t>(cell - first_cell)];
    part.reserve(static_cast<size_t>(count));
    drawn.ForEach([&](int64_t c) {
      if (shard.owns(begin + c)) part.push_back(begin + c - shard.first);
    });
  }
  size_t total = 0;
  for (const auto& part : parts) total += part.size();
  rows.reserve(total);
  for (const auto& part : parts) rows.insert(rows.end(), part.begin(), part.end());
  return rows;
}

int64_t ClassDraw::MostRows(const Shard& shard, int64_t batch) const {
  if (shard.rows == 0) return 0;
  int64_t rows = batch;  // should every sample's class come on top
  for (int64_t cell = shard.first / kCell; cell <= (shard.first + shard.rows - 1) / kCell; ++cell) {
    const int64_t owned =
        std::min(shard.first + shard.rows, CellEnd(cell)) - std::max(shard.first, cell * kCell);
    rows += std::min(owned, Share(cell));
  }
  return std::min(rows, shard.rows);
}

}  // namespace crema
