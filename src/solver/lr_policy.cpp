#include <algorithm>
#include <cmath>

#include "crema/solver.hpp"

namespace crema {
namespace {

// Drops passed at `iteration`: each waits for its stepvalue and for the iteration after the drop before it.
int64_t MultiStep(const SolverParameter& spec, int64_t iteration) {
  int64_t step = 0, earliest = 0;
  for (int64_t value : spec.stepvalue()) {
    const int64_t drop = std::max(value, earliest);
    if (drop > iteration) break;
    earliest = drop + 1;
    ++step;
  }
  return step;
}

void Need(bool has, const SolverParameter& spec, const char* field) {
  Require(has, "the solver has no ", field, ", which lr_policy \"", spec.lr_policy(), "\" needs");
}

int64_t StepSize(const SolverParameter& spec) {
  Need(spec.has_stepsize(), spec, "stepsize");
  Require(spec.stepsize() > 0, "the solver's stepsize is ", spec.stepsize(),
          ", a positive number was expected");
  return spec.stepsize();
}

double Gamma(const SolverParameter& spec) {
  Need(spec.has_gamma(), spec, "gamma");
  return spec.gamma();
}

double Power(const SolverParameter& spec) {
  Need(spec.has_power(), spec, "power");
  return spec.power();
}

// Share of the iterations after the warm-up that lie behind, in [0, 1].
double Progress(const SolverParameter& spec, int64_t iteration) {
  Need(spec.has_max_iter(), spec, "max_iter");
  const int64_t total = spec.max_iter() - spec.warmup_iter();
  Require(total > 0, "the solver's max_iter is ", spec.max_iter(), ", lr_policy \"", spec.lr_policy(),
          "\" needs more than warmup_iter, ", spec.warmup_iter());
  return std::min(1.0, static_cast<double>(iteration - spec.warmup_iter()) / static_cast<double>(total));
}

// The factor of base_lr after the warm-up.
double Decay(const SolverParameter& spec, int64_t iteration) {
  const std::string& policy = spec.lr_policy();
  const double after_warmup = static_cast<double>(iteration - spec.warmup_iter());
  if (policy == "fixed") return 1;
  if (policy == "step" || policy == "multistep")
    return std::pow(Gamma(spec), static_cast<double>(LearningRateStep(spec, iteration)));
  if (policy == "exp") return std::pow(Gamma(spec), after_warmup);
  if (policy == "inv") return std::pow(1 + Gamma(spec) * after_warmup, -Power(spec));
  if (policy == "poly") return std::pow(1 - Progress(spec, iteration), Power(spec));
  if (policy == "sigmoid")
    return 1 / (1 + std::exp(-Gamma(spec) * static_cast<double>(iteration - StepSize(spec))));
  if (policy == "cosine") return (1 + std::cos(std::acos(-1.0) * Progress(spec, iteration))) / 2;
  Fail("the solver's lr_policy is \"", policy,
       "\", one of fixed, step, exp, inv, multistep, poly, sigmoid and cosine was expected");
}

}  // namespace

int64_t LearningRateStep(const SolverParameter& spec, int64_t iteration) {
  if (spec.lr_policy() == "step") return iteration / StepSize(spec);
  return spec.lr_policy() == "multistep" ? MultiStep(spec, iteration) : 0;
}

double LearningRate(const SolverParameter& spec, int64_t iteration) {
  Require(spec.has_base_lr(), "the solver has no base_lr");
  Require(spec.has_lr_policy(), "the solver has no lr_policy");
  const int64_t warmup = spec.warmup_iter();
  const double decay = Decay(spec, std::max(iteration, warmup));  // also checks the fields during the warm-up
  if (iteration >= warmup) return spec.base_lr() * decay;
  const double share = static_cast<double>(iteration) / static_cast<double>(warmup);
  return spec.warmup_start_lr() + (static_cast<double>(spec.base_lr()) - spec.warmup_start_lr()) * share;
}

}  // namespace crema
