// LabelSpecificAdd: adds a bias to the own class's score where that is above -bias; TEST hands the scores
// through; a second top holds the bias in force (AM-Softmax, Wang et al., arXiv 1801.05599, as in
// happynear/caffe-windows). The gradient goes through as it is.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/own_score.hpp"

namespace crema {
namespace {

struct AddedBias {
  double bias;
  CREMA_HD double Value(double score) const { return score > -bias ? score + bias : score; }
  CREMA_HD double Slope(double) const { return 1; }
};

struct LabelSpecificAdd final : OwnScoreLayer<AddedBias> {
  using OwnScoreLayer::OwnScoreLayer;
  Arity arity() const override { return {2, 2, 1, 2}; }
  Reads BackwardReads() const override { return Reads::kNothing; }

  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    OwnScoreLayer::Reshape(ctx, bottom, top);
    const LabelSpecificAddParameter& options = spec().label_specific_add_param();
    Check(options.bias_min() <= options.bias_max(), "bias_min ", options.bias_min(), " is above bias_max ",
          options.bias_max());
    if (top.size() > 1) top[1]->Reshape(bottom[0]->dtype(), {1});
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    OwnScoreLayer::Forward(ctx, bottom, top);
    if (top.size() > 1) WriteScalar(Applies() ? RuleAt(ctx).bias : 0, top[1]);
  }

  void Backward(const Context&, const Blobs& top, const Blobs& bottom) override {
    if (bottom[0]->needs_grad()) bottom[0]->grad().CopyFrom(top[0]->grad());
  }

 protected:
  AddedBias RuleAt(const Context& ctx) const override {
    const LabelSpecificAddParameter& options = spec().label_specific_add_param();
    if (!options.has_bias_base()) return {options.bias()};
    const double t = static_cast<double>(options.iteration() + ctx.iteration);
    const double grown = std::pow(1 + static_cast<double>(options.bias_gamma()) * t,
                                  static_cast<double>(options.bias_power()));
    const double bias = static_cast<double>(options.bias_base()) + grown - 1;
    return {std::clamp<double>(bias, options.bias_min(), options.bias_max())};
  }
};

CREMA_REGISTER_LAYER(LabelSpecificAdd, "label_specific_add_param");

}  // namespace
}  // namespace crema
