#include "solver/optimizer.hpp"

#include <glog/logging.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "solver/measure.hpp"
#include "solver/update_kernels.hpp"

namespace crema {
namespace {

// The slots of every rule, in the order in which Caffe's solverstate has them.
const std::map<std::string, std::vector<std::string>>& Rules() {
  static const std::map<std::string, std::vector<std::string>> kRules = {
      {"SGD", {"momentum"}},
      {"Nesterov", {"momentum"}},
      {"AdaGrad", {"square"}},
      {"RMSProp", {"square"}},
      {"AdaDelta", {"square", "update_square"}},
      {"Adam", {"moment1", "moment2"}},
      {"AdamW", {"moment1", "moment2"}},
  };
  return kRules;
}

void CheckSettings(const SolverParameter& spec, const std::string& type) {
  Require(spec.regularization_type() == "L2" || spec.regularization_type() == "L1",
          "the solver's regularization_type is \"", spec.regularization_type(), "\", L1 or L2 was expected");
  Require(spec.iter_size() > 0, "the solver's iter_size is ", spec.iter_size(), ", at least 1 was expected");
  if (type == "AdaGrad" || type == "RMSProp")
    Require(spec.momentum() == 0, "the solver's momentum is ", spec.momentum(), ", but ", type, " has none");
  if (type == "RMSProp")
    Require(spec.rms_decay() >= 0 && spec.rms_decay() < 1, "the solver's rms_decay is ", spec.rms_decay(),
            ", a number in [0, 1) was expected");
  if (type == "Adam" || type == "AdamW") {
    Require(spec.momentum() >= 0 && spec.momentum() < 1, "the solver's momentum is ", spec.momentum(), ", ",
            type, " needs a number in [0, 1)");
    Require(spec.momentum2() >= 0 && spec.momentum2() < 1, "the solver's momentum2 is ", spec.momentum2(),
            ", ", type, " needs a number in [0, 1)");
  }
}

// All that one param's update needs besides its tensors.
struct Settings {
  const SolverParameter* spec;
  const std::string* type;
  double rate;  // with lr_mult
  double clip;
  int64_t iteration;
};

template <class T, class Rule, class Index>
void Run(const Context& ctx, Optimizer::State& state, const Tensor& grad, int64_t count, const Index& index,
         const GradientTerms<T>& terms, const Rule& rule) {
  T* s1 = state.slots.size() > 1 ? state.slots[1].data<T>() : nullptr;
  ForEach(ctx, count,
          UpdateKernel<T, Rule, Index>{state.param->value.data<T>(), grad.empty() ? nullptr : grad.data<T>(),
                                       state.slots[0].data<T>(), s1, index, terms, rule});
}

template <class T>
AdamRule<T> MakeAdam(const Settings& settings, double l1, double l2) {
  const SolverParameter& spec = *settings.spec;
  const double t = static_cast<double>(settings.iteration + 1);
  const double correction = std::sqrt(1 - std::pow(static_cast<double>(spec.momentum2()), t)) /
                            (1 - std::pow(static_cast<double>(spec.momentum()), t));
  return {T(settings.rate),
          T(settings.rate * correction),
          T(spec.delta()),
          T(spec.momentum()),
          T(spec.momentum2()),
          T(l1),
          T(l2)};
}

template <class T, class Index>
void RunRule(const Context& ctx, const Settings& settings, Optimizer::State& state, const Tensor& grad,
             int64_t count, const Index& index) {
  const SolverParameter& spec = *settings.spec;
  const std::string& type = *settings.type;
  const double decay = static_cast<double>(spec.weight_decay()) * state.param->decay_mult;
  const bool is_l1 = spec.regularization_type() == "L1", apart = type == "AdamW";
  const double l1 = is_l1 ? decay : 0, l2 = is_l1 ? 0 : decay;
  const GradientTerms<T> terms{T(settings.clip), T(1) / T(spec.iter_size()), T(apart ? 0 : l1),
                               T(apart ? 0 : l2)};
  const T rate = T(settings.rate), momentum = T(spec.momentum()), delta = T(spec.delta());
  if (type == "SGD") return Run<T>(ctx, state, grad, count, index, terms, SgdRule<T>{rate, momentum});
  if (type == "Nesterov")
    return Run<T>(ctx, state, grad, count, index, terms, NesterovRule<T>{rate, momentum});
  if (type == "AdaGrad") return Run<T>(ctx, state, grad, count, index, terms, AdaGradRule<T>{rate, delta});
  if (type == "RMSProp")
    return Run<T>(ctx, state, grad, count, index, terms, RmsPropRule<T>{rate, delta, T(spec.rms_decay())});
  if (type == "AdaDelta")
    return Run<T>(ctx, state, grad, count, index, terms, AdaDeltaRule<T>{rate, delta, momentum});
  return Run<T>(ctx, state, grad, count, index, terms, MakeAdam<T>(settings, apart ? l1 : 0, apart ? l2 : 0));
}

Tensor ToDevice(const Context& ctx, const std::vector<int64_t>& numbers) {
  Tensor tensor(*ctx.device, DType::kI64, {static_cast<int64_t>(numbers.size())});
  tensor.FromHost(numbers);
  return tensor;
}

// Gradients by rows: only these rows, or every row with the others' gradient zero.
template <class T>
void RunRows(const Context& ctx, const Settings& settings, Optimizer::State& state) {
  const Param& param = *state.param;
  const int64_t rows = static_cast<int64_t>(param.rows.size());
  const int64_t width = CountOf(param.shape, 1, static_cast<int64_t>(param.shape.size()));
  if (!param.update_all_rows) {
    if (rows == 0) return;
    const Tensor numbers = ToDevice(ctx, param.rows);
    return RunRule<T>(ctx, settings, state, param.row_grad, rows * width,
                      ActiveRowsIndex{numbers.data<int64_t>(), width});
  }
  if (param.shape[0] == 0) return;
  std::vector<int64_t> active(static_cast<size_t>(param.shape[0]), -1);
  for (int64_t k = 0; k < rows; ++k) active[static_cast<size_t>(param.rows[static_cast<size_t>(k)])] = k;
  const Tensor numbers = ToDevice(ctx, active);
  RunRule<T>(ctx, settings, state, param.row_grad, param.shape[0] * width,
             AllRowsIndex{numbers.data<int64_t>(), width});
}

}  // namespace

std::string SolverTypeOf(const SolverParameter& spec) {
  static const char* const kOlder[] = {"SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"};
  Require(!spec.has_type() || !spec.has_solver_type(), "the solver gives both type, \"", spec.type(),
          "\", and the older solver_type, ", SolverParameter::SolverType_Name(spec.solver_type()),
          "; one of them was expected");
  const std::string type = spec.has_solver_type() ? kOlder[spec.solver_type()] : spec.type();
  Require(Rules().count(type) > 0, "the solver's type is \"", type,
          "\", one of SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam and AdamW was expected");
  return type;
}

Optimizer::Optimizer(const Context& ctx, const SolverParameter& spec, const std::vector<Param*>& params)
    : spec_(spec), type_(SolverTypeOf(spec)), slot_names_(Rules().at(type_)) {
  CheckSettings(spec, type_);
  for (Param* param : params) {
    State state{param, {}};
    if (param->needs_grad()) {
      CHECK(!param->row_sparse || param->sharded || ctx.comm->size() == 1)
          << param->name << ": a replicated param cannot have its gradient by rows on several ranks";
      for (size_t i = 0; i < slot_names_.size(); ++i) {
        state.slots.emplace_back(*ctx.device, param->dtype, param->shape);
        state.slots.back().Zero();
      }
    }
    states_.push_back(std::move(state));
  }
}

int64_t Optimizer::bytes() const {
  int64_t sum = 0;
  for (const State& state : states_)
    for (const Tensor& slot : state.slots) sum += slot.bytes();
  return sum;
}

double Optimizer::ClipFactor(const Context& ctx) const {
  const double limit = spec_.clip_gradients();
  if (limit < 0) return 1;
  double replicated = 0, sharded = 0;
  bool any_sharded = false;
  for (const State& state : states_) {
    const Param& param = *state.param;
    if (state.slots.empty()) continue;
    const int64_t row = CountOf(param.shape, 1, static_cast<int64_t>(param.shape.size()));
    const double squares = param.row_sparse ? MeasureOf(ctx, Measure::kSquares, param.row_grad,
                                                        static_cast<int64_t>(param.rows.size()) * row)
                                            : MeasureOf(ctx, Measure::kSquares, param.grad);
    any_sharded = any_sharded || param.sharded;
    (param.sharded ? sharded : replicated) += squares;
  }
  if (any_sharded) {
    Tensor sum(*ctx.device, DType::kF64, {1});
    sum.FromHost(std::vector<double>{sharded});
    ctx.comm->AllReduce(&sum, Reduce::kSum);
    sharded = sum.ToHost<double>()[0];
  }
  const double norm = std::sqrt(replicated + sharded);
  if (!(norm > limit)) return 1;
  LOG_IF(INFO, ctx.comm->root()) << "Gradient clipping: scaling down gradients (L2 norm "
                                 << static_cast<float>(norm) << " > " << spec_.clip_gradients()
                                 << ") by scale factor " << static_cast<float>(limit / norm);
  return limit / norm;
}

void Optimizer::Update(const Context& ctx, double rate, int64_t iteration) {
  const double clip = ClipFactor(ctx);
  for (State& state : states_) {
    if (state.slots.empty()) continue;
    const Param& param = *state.param;
    const Settings settings{&spec_, &type_, rate * param.lr_mult, clip, iteration};
    ForReal(param.dtype, [&]<class T>() {
      if (param.row_sparse) {
        RunRows<T>(ctx, settings, state);
      } else {
        RunRule<T>(ctx, settings, state, param.grad, param.value.count(), DenseIndex{});
      }
    });
  }
}

}  // namespace crema
