// Floor 6. RowUpdater: the optimiser's hand on one weight whose gradient comes by rows (class centres).
// Called by the optimiser and, as a RowRule, by the layers that make such gradients.
#pragma once

#include <vector>

#include "crema/blob.hpp"
#include "crema/head.hpp"
#include "solver/update_kernels.hpp"

namespace crema {

// With Param::update_all_rows every row decays and moves by its momentum in each iteration, as if its
// gradient were zero where it was not drawn. SGD, Nesterov's and AdamW's rules leave that undone until a row
// is read next: each row remembers how many updates it has seen, and catches up with all it has missed at
// once. The others, whose steps do not compose, go over all rows in each iteration.
class RowUpdater final : public RowRule {
 public:
  // Both must outlive this one. `slots` have the param's type and shape.
  RowUpdater(const Context& ctx, Param* param, std::vector<Tensor>* slots);
  ~RowUpdater() override;
  RowUpdater(const RowUpdater&) = delete;

  // Opens an iteration: from here to Finish rows are updated with these settings, `immediate`ly or not.
  void Begin(const UpdateSettings& settings, bool immediate);
  // Updates the rows whose gradients were left in the param, and closes the iteration.
  void Finish(const Context& ctx);
  // Closes it without an update of those rows.
  void Skip();
  // i32 of each row: the number of the iteration, from 1, that drew it last; 0: none has.
  Tensor& last_drawn() { return last_drawn_; }
  // Every row as a dense update would have left it. Before the rows are saved or looked at.
  void CatchUpAll(const Context& ctx);
  // What it keeps beside the slots.
  static int64_t BytesFor(const Param& param) {
    return param.row_count() * static_cast<int64_t>(sizeof(int32_t)) * (param.update_all_rows ? 2 : 1);
  }

  bool immediate() const override { return open_ && immediate_; }
  bool one_pass() const override { return open_ && settings_.part == 1; }
  std::vector<Tensor> State() const override { return *slots_; }
  void CatchUp(const Context& ctx, const RowSet& rows) override;
  bool catches_up() const override { return !seen_.empty() && !past_.empty(); }
  void Update(const Context& ctx, const RowSet& rows, const void* grad, const void* along,
              const void* loss) override;

 private:
  // Effect of updates with zero gradient: weight = ww * weight + wm * momentum, momentum = mw * weight + mm *
  // momentum.
  struct Linear {
    double ww = 1, wm = 0, mw = 0, mm = 1;
  };

  bool composes() const;
  void Settle();
  Linear StepOf(const UpdateSettings& settings) const;
  void UpdateRows(const Context& ctx, const RowSet& rows, const void* grad, const void* along,
                  const void* loss);
  void SweepAll(const Context& ctx);
  void ComposePast(const Context& ctx);
  void Used(const RowSet& rows);
  template <class T, class Stored>
  StoredRows<T, Stored> Rows(const RowSet& rows, uint64_t what);

  Param* param_;
  std::vector<Tensor>* slots_;
  uint64_t key_;  // of the rounding
  UpdateSettings settings_;
  bool open_ = false, immediate_ = false;

  Tensor last_drawn_;

  // Of update_all_rows. Updates are numbered from the last time that all rows had seen all of them.
  Tensor seen_;                     // i32 of each row: updates it has seen
  std::vector<Linear> past_;        // of each update
  std::vector<double> adam_steps_;  // of each update: AdamW's corrected rate and factor of the weight
  int64_t oldest_ = 0;              // no row has seen fewer
  Tensor to_now_;                   // f64 [*, 4], a Linear: all updates from number oldest_ + k on, as one
  Tensor adam_steps_on_device_;     // from update oldest_ on
};

}  // namespace crema
