// Floor 6. Optimizer: an update rule and its state for every weight. Called by the solver; its state is saved
// and restored by the snapshot.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "crema/blob.hpp"
#include "crema/context.hpp"
#include "solver/row_updater.hpp"

namespace crema {

// "SGD", "Nesterov", ... from `type` or from the older solver_type. Throws Error where both are given or
// unknown.
std::string SolverTypeOf(const SolverParameter& spec);

class Optimizer {
 public:
  // A param and what the rule remembers of it, one tensor per slot of the param's shape; `slots` is empty for
  // statistics and for weights that are not learnt.
  struct State {
    Param* param;
    std::vector<Tensor> slots;
    std::unique_ptr<RowUpdater> rows;  // where the gradient comes by rows
  };

  // Throws Error for settings that the rule does not have. State starts at zero.
  Optimizer(const Context& ctx, const SolverParameter& spec, const std::vector<Param*>& params);
  ~Optimizer();
  Optimizer(const Optimizer&) = delete;

  // Before the forward pass of an iteration: from now on, rows of class centres may be updated as soon as
  // their gradients are known, where neither clip_gradients nor iter_size makes them wait for Update.
  void Begin(double rate, int64_t iteration);

  // One update of every weight from its gradient, in Caffe's order: clip the gradients' common norm, divide
  // by iter_size, add the decay, step. Gradients are the sums over iter_size passes and over the ranks; they
  // are not changed. `iteration` counts from 0. `squares`: what SumSquares made, for who has it already; else
  // it is made and waited for where it is needed. Collective where a param is sharded.
  void Update(const Context& ctx, double rate, int64_t iteration,
              std::optional<double> squares = std::nullopt);
  // Sums the squares of all gradients, the root of which clip_gradients bounds, into `sum`, f64 [1] on the
  // device, which is 0 before and stays so where they are not clipped. Collective where a param is sharded.
  void SumSquares(const Context& ctx, Tensor* sum) const;
  // Instead of Update where it is left out: ends that of the rows that are updated while they are at hand.
  void SkipUpdate(const Context& ctx, double rate, int64_t iteration);
  // Does what was left undone on rows that were not drawn (update: ALL_ROWS). Before the weights are saved or
  // looked at.
  void CatchUp(const Context& ctx);

  // Slots that the spec's rule keeps for a param.
  static size_t SlotsFor(const SolverParameter& spec, const Param& param);
  // Whether rows of class centres are updated as soon as their gradients are known.
  static bool UpdatesRowsAtOnce(const SolverParameter& spec);

  const std::vector<std::string>& slot_names() const { return slot_names_; }  // such as "momentum"
  std::vector<State>& states() { return states_; }                            // one per param, in order
  int64_t bytes() const;

 private:
  double ClipFactor(const Context& ctx, std::optional<double> squares) const;
  UpdateSettings SettingsOf(const Param& param, double rate, double clip, int64_t iteration) const;

  SolverParameter spec_;
  std::string type_;
  std::vector<std::string> slot_names_;
  std::vector<State> states_;
};

}  // namespace crema
