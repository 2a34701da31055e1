#include "solver/mixed_precision.hpp"

namespace crema {

DType ActivationsOf(const SolverParameter& spec, DType real) {
  return spec.precision() == SolverParameter::BF16   ? DType::kBF16
         : spec.precision() == SolverParameter::FP16 ? DType::kF16
                                                     : real;
}

DType GradientExchangeOf(const SolverParameter& spec) {
  Require(spec.gradient_exchange() != SolverParameter::TF32,
          "the solver's gradient_exchange is TF32; FP32, BF16 or FP16 was expected");
  return spec.gradient_exchange() == SolverParameter::BF16   ? DType::kBF16
         : spec.gradient_exchange() == SolverParameter::FP16 ? DType::kF16
                                                             : DType::kF32;
}

void PrepareDevice(const SolverParameter& spec, const Context& ctx) {
  if (!spec.deterministic()) ctx.device->AllowVariation();
  if (spec.precision() == SolverParameter::TF32) return ctx.device->AllowTf32();
  const DType wanted = ActivationsOf(spec, ctx.real);
  Require(!Has16Bits(wanted) || !ctx.device->is_cuda() || ctx.device->IsFastIn(wanted),
          "the solver's precision is ", SolverParameter::Precision_Name(spec.precision()), ", which ",
          ctx.device->name(), " does not know; FP32 was expected, or a GPU of compute capability ",
          wanted == DType::kBF16 ? "8.0" : "7.0", " or later");
}

std::string NoteOnPrecision(const SolverParameter& spec, const Context& ctx) {
  if (!Has16Bits(ctx.activations) || ctx.device->IsFastIn(ctx.activations)) return "";
  return Concat("precision ", SolverParameter::Precision_Name(spec.precision()), ": ", ctx.device->name(),
                " has no fast instructions for it; values are kept in 16 bits, which saves memory, and "
                "multiplied in float32, which is slower than precision FP32");
}

}  // namespace crema
