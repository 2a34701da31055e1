#include "solver/row_updater.hpp"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "solver/update_kernels.hpp"

namespace crema {
namespace {

// Row k after several updates with zero gradient whose effect is linear in weight and momentum.
template <class T, class Stored>
struct CatchUpLinear {
  StoredRows<T, Stored> stored;
  const int32_t* seen;  // of every row of the weight
  int32_t updates;
  const double* to_now;  // [updates - oldest + 1, 4]
  int64_t oldest;

  struct Block {
    T ww, wm, mw, mm;
    CREMA_HD void operator()(T* x, T* a, T*, int64_t, int64_t n) const {
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) {
        const T weight = x[i], momentum = a[i];
        x[i] = ww * weight + wm * momentum;
        a[i] = mw * weight + mm * momentum;
      }
    }
  };
  template <class Lanes>
  CREMA_HD void operator()(int64_t k, const Lanes& lanes) const {
    const int64_t row = stored.set.Row(k);
    if (seen[row] >= updates) return;
    const double* m = to_now + 4 * (seen[row] - oldest);
    stored.Rewrite(k, lanes, Block{T(m[0]), T(m[1]), T(m[2]), T(m[3])});
  }
};

// The same for AdamW: step by step while the first moment lasts, then its decay at once.
template <class T, class Stored>
struct CatchUpAdam {
  StoredRows<T, Stored> stored;
  const int32_t* seen;
  int32_t updates;
  const double* to_now;
  int64_t oldest;
  const double* steps;  // [updates - oldest, 2]: corrected rate, 1 - rate * decay
  double beta1, beta2, delta;
  int32_t lasting;  // steps after which the first moment is gone

  struct Block {
    const double* steps;
    int32_t walked, rest;
    T beta1, beta2, delta, rest_of_weight;
    CREMA_HD void operator()(T* x, T* a, T* b, int64_t, int64_t n) const {
      for (int32_t k = 0; k < walked; ++k) {
        const T rate = T(steps[2 * k]), keep = T(steps[2 * k + 1]);
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) {
          a[i] *= beta1;
          b[i] *= beta2;
          x[i] = keep * x[i] - rate * a[i] / (std::sqrt(b[i]) + delta);
        }
      }
      if (rest == 0) return;
      const T first = std::pow(beta1, T(rest)), second = std::pow(beta2, T(rest));
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) x[i] *= rest_of_weight, a[i] *= first, b[i] *= second;
    }
  };
  template <class Lanes>
  CREMA_HD void operator()(int64_t k, const Lanes& lanes) const {
    const int64_t row = stored.set.Row(k);
    const int32_t behind = updates - seen[row];
    if (behind <= 0) return;
    const int32_t walked = behind < lasting ? behind : lasting;
    const double rest_of_weight = to_now[4 * (seen[row] + walked - oldest)];
    stored.Rewrite(k, lanes,
                   Block{steps + 2 * (seen[row] - oldest), walked, behind - walked, T(beta1), T(beta2),
                         T(delta), T(rest_of_weight)});
  }
};

// Of sweeps over all rows, so that what lies in a file need not be resident at once.
constexpr int64_t kRowsAtOnce = 1 << 16;

struct MarkRows {
  RowSet set;
  int32_t *marks, mark;
  CREMA_HD void operator()(int64_t k) const { marks[set.Row(k)] = mark; }
};

}  // namespace

RowUpdater::RowUpdater(const Context& ctx, Param* param, std::vector<Tensor>* slots)
    : param_(param), slots_(slots), key_(MixBits(ctx.seed, NameKey("rounding/" + param->name))) {
  last_drawn_ = Tensor(*ctx.device, DType::kI32, {param->row_count()});
  last_drawn_.Zero();
  if (param->update_all_rows) {
    seen_ = Tensor(*ctx.device, DType::kI32, {param->row_count()});
    seen_.Zero();
  }
  param->rule = this;
}

RowUpdater::~RowUpdater() {
  param_->rule = nullptr;
}

void RowUpdater::Begin(const UpdateSettings& settings, bool immediate) {
  settings_ = settings;
  open_ = true;
  immediate_ = immediate;
}

// Whether updates with zero gradient can be left for later.
bool RowUpdater::composes() const {
  if (settings_.l1 != 0) return false;
  return settings_.type == RuleType::kSgd || settings_.type == RuleType::kNesterov ||
         settings_.type == RuleType::kAdamW;
}

// The effect of one update with zero gradient: from v' = momentum * v + rate * l2 * w and w' = w - v' (SGD),
// w' = w - (1 + momentum) v' + momentum * v (Nesterov), w' = (1 - rate * l2) w without moments (AdamW).
RowUpdater::Linear RowUpdater::StepOf(const UpdateSettings& s) const {
  const double decay = s.rate * s.l2, mu = s.momentum;
  if (s.type == RuleType::kAdamW) return {1 - decay, 0, 0, 0};
  if (s.type == RuleType::kNesterov) return {1 - (1 + mu) * decay, -mu * mu, decay, mu};
  return {1 - decay, -mu, decay, mu};
}

void RowUpdater::Finish(const Context& ctx) {
  if (!param_->rows.empty()) {
    Tensor rows(*ctx.device, DType::kI64, {static_cast<int64_t>(param_->rows.size())});
    rows.FromHost(param_->rows);
    RowSet set{rows.data<int64_t>(), 0, rows.count()};
    CHECK(param_->staged.empty() || param_->staged[0].dim(0) == rows.count()) << param_->name;
    for (size_t i = 0; i < param_->staged.size(); ++i)
      (i == 0 ? set.value : set.state[i - 1]) = param_->staged[i].raw();
    Update(ctx, set, param_->row_grad.raw(), nullptr, nullptr);
  }
  Settle();
  if (!seen_.empty() && !composes()) {
    SweepAll(ctx);
  } else if (!seen_.empty()) {
    past_.push_back(StepOf(settings_));
    adam_steps_.insert(
        adam_steps_.end(),
        {settings_.type == RuleType::kAdamW ? settings_.corrected_rate() : 0, past_.back().ww});
    ComposePast(ctx);
  }
  open_ = false;
}

void RowUpdater::Skip() {
  Settle();
  open_ = false;
}

void RowUpdater::Settle() {
  if (const auto settle = std::exchange(param_->settle, nullptr)) settle();
  param_->staged.clear();
}

// Zero-gradient updates of all rows that were not drawn. No row is then behind, so there is no past to keep.
void RowUpdater::SweepAll(const Context& ctx) {
  ++param_->rewritten;
  std::vector<int64_t> rest;
  const std::vector<int32_t> seen = seen_.ToHost<int32_t>();
  for (size_t row = 0; row < seen.size(); ++row)
    if (seen[row] == 0) rest.push_back(static_cast<int64_t>(row));
  Tensor rows(*ctx.device, DType::kI64, {static_cast<int64_t>(rest.size())});
  rows.FromHost(rest);
  for (int64_t begin = 0; begin < rows.count(); begin += kRowsAtOnce)
    UpdateRows(ctx, {rows.data<int64_t>() + begin, 0, std::min(kRowsAtOnce, rows.count() - begin)}, nullptr,
               nullptr, nullptr);
  seen_.Zero();
}

// to_now_[k] is the product of the updates from number oldest_ + k on.
void RowUpdater::ComposePast(const Context& ctx) {
  constexpr size_t kLook = 64;  // updates between two looks for the row that is furthest behind
  if (past_.size() % kLook == 0 && seen_.count() > 0) {
    const std::vector<int32_t> seen = seen_.ToHost<int32_t>();
    oldest_ = *std::min_element(seen.begin(), seen.end());
  }
  const int64_t updates = static_cast<int64_t>(past_.size());
  std::vector<Linear> to_now(static_cast<size_t>(updates - oldest_ + 1));
  for (int64_t k = updates - 1; k >= oldest_; --k) {
    const Linear &after = to_now[static_cast<size_t>(k + 1 - oldest_)], &step = past_[static_cast<size_t>(k)];
    to_now[static_cast<size_t>(k - oldest_)] = {
        after.ww * step.ww + after.wm * step.mw, after.ww * step.wm + after.wm * step.mm,
        after.mw * step.ww + after.mm * step.mw, after.mw * step.wm + after.mm * step.mm};
  }
  const auto upload = [&](const double* numbers, size_t count, Tensor* to) {
    *to = Tensor(*ctx.device, DType::kF64, {static_cast<int64_t>(count)});
    to->CopyFromHost(numbers, to->count());
  };
  upload(&to_now[0].ww, 4 * to_now.size(), &to_now_);
  if (settings_.type == RuleType::kAdamW)
    upload(adam_steps_.data() + 2 * oldest_, static_cast<size_t>(2 * (updates - oldest_)),
           &adam_steps_on_device_);
}

void RowUpdater::CatchUpAll(const Context& ctx) {
  if (!catches_up()) return;
  ++param_->rewritten;
  for (int64_t begin = 0; begin < param_->row_count(); begin += kRowsAtOnce)
    CatchUp(ctx, {nullptr, begin, std::min(kRowsAtOnce, param_->row_count() - begin)});
  seen_.Zero();
  past_.clear(), adam_steps_.clear();
  oldest_ = 0;
}

template <class T, class Stored>
StoredRows<T, Stored> RowUpdater::Rows(const RowSet& rows, uint64_t what) {
  const auto slot = [&](size_t i) -> Stored* {
    if (i >= slots_->size()) return nullptr;
    return rows.staged() ? static_cast<Stored*>(rows.state[i]) : (*slots_)[i].data<Stored>();
  };
  const RoundingBits rounding{MixBits(MixBits(key_, what), static_cast<uint64_t>(settings_.iteration))};
  Stored* const value = rows.staged() ? static_cast<Stored*>(rows.value) : param_->value.data<Stored>();
  return {value, slot(0), slot(1), rows, param_->value.dim(1), param_->first_row, rounding};
}

void RowUpdater::Update(const Context& ctx, const RowSet& rows, const void* grad, const void* along,
                        const void* loss) {
  UpdateRows(ctx, rows, grad, along, loss);
  const int32_t now = static_cast<int32_t>(settings_.iteration) + 1;
  ForEach(ctx, rows.count, MarkRows{rows, last_drawn_.data<int32_t>(), now});
}

void RowUpdater::UpdateRows(const Context& ctx, const RowSet& rows, const void* grad, const void* along,
                            const void* loss) {
  ForStored(ctx.real, param_->dtype, [&]<class T, class Stored>() {
    WithRule<T>(settings_, [&]<class Rule>(const GradientTerms<T>& terms, const Rule& rule) {
      ForEachRow(
          ctx, rows.count,
          UpdateRow<T, Stored, Rule>{Rows<T, Stored>(rows, 0), static_cast<const T*>(grad),
                                     static_cast<const T*>(along), static_cast<const T*>(loss), terms, rule});
    });
  });
  Used(rows);
  if (!seen_.empty())
    ForEach(ctx, rows.count, MarkRows{rows, seen_.data<int32_t>(), static_cast<int32_t>(past_.size()) + 1});
}

void RowUpdater::Used(const RowSet& rows) {
  if (param_->memory == nullptr || rows.staged()) return;
  for (size_t i = 0; i <= slots_->size(); ++i)
    param_->memory->Used(rows.rows, rows.first, rows.count, param_->row_length() * SizeOf(param_->dtype));
}

void RowUpdater::CatchUp(const Context& ctx, const RowSet& rows) {
  if (!catches_up()) return;
  const int32_t updates = static_cast<int32_t>(past_.size());
  const double* to_now = to_now_.data<double>();
  const int32_t lasting = static_cast<int32_t>(
      std::ceil(std::log(1e-9) / std::log(std::clamp(settings_.momentum, 1e-9, 0.9999))));
  ForStored(ctx.real, param_->dtype, [&]<class T, class Stored>() {
    const StoredRows<T, Stored> stored = Rows<T, Stored>(rows, 1);
    if (settings_.type == RuleType::kAdamW) {
      ForEachRow(ctx, rows.count,
                 CatchUpAdam<T, Stored>{stored, seen_.data<int32_t>(), updates, to_now, oldest_,
                                        adam_steps_on_device_.data<double>(), settings_.momentum,
                                        settings_.momentum2, settings_.delta, lasting});
    } else {
      ForEachRow(ctx, rows.count,
                 CatchUpLinear<T, Stored>{stored, seen_.data<int32_t>(), updates, to_now, oldest_});
    }
  });
  Used(rows);
  ForEach(ctx, rows.count, MarkRows{rows, seen_.data<int32_t>(), updates});
}

}  // namespace crema
