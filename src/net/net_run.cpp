// Running a net and looking into it.
#include <algorithm>

#include <glog/logging.h>

#include "crema/net.hpp"
#include "crema/parallel.hpp"
#include "net/host_values.hpp"
#include "net/net_values.hpp"
#include "net/reorder.hpp"

namespace crema {

namespace {

template <class T, class S>
struct AddTo {
  S* sum;
  const S* term;
  CREMA_HD void operator()(int64_t i) const {
    sum[i] = static_cast<S>(static_cast<T>(sum[i]) + static_cast<T>(term[i]));
  }
};

template <class S>
struct AddWeighted {
  const S* terms;
  int64_t count;
  double weight;
  double* sum;
  CREMA_HD void operator()(int64_t) const {
    for (int64_t i = 0; i < count; ++i) *sum += weight * static_cast<double>(terms[i]);
  }
};

// f(), with the layer's name in what goes wrong on the device. What a GPU has been given before may show only
// now.
template <class F>
void InLayer(const Layer& layer, const F& f) {
  const auto name = [&](const DeviceError& error) {
    return Concat("layer '", layer.name(), "' (", layer.type(), "): ", error.what());
  };
  try {
    f();
  } catch (const OutOfMemory& error) {
    throw OutOfMemory(name(error), error.device_bytes);
  } catch (const DeviceError& error) {
    throw DeviceError(name(error));
  }
}

}  // namespace

double Net::Forward(const Context& ctx) {
  RunForward(ctx);
  Tensor loss(*ctx.device, DType::kF64, {1});
  loss.Zero();
  AddLoss(ctx, &loss);
  return loss.ToHost<double>()[0];
}

void Net::AddLoss(const Context& ctx, Tensor* sum) const {
  for (const auto& value : values_) {
    if (value->loss_weight == 0) continue;
    ForBlob(value->blob->dtype(), [&]<class, class S>() {
      ForEach(ctx, 1,
              AddWeighted<S>{value->blob->data().data<S>(), value->blob->count(),
                             static_cast<double>(value->loss_weight), sum->data<double>()});
    });
  }
}

void Net::RunForward(const Context& ctx) {
  CHECK(!options_.dry) << "Forward of a net that is only a plan";
  for (const auto& value : values_) {
    if (value->recomputed) value->Bind(value->forward_data);
  }
  bool changed = false;  // whether a top got another size than last time
  for (size_t k = 0; k < steps_.size(); ++k) {
    const Step& step = steps_[k];
    if (changed) FollowShapes(ctx, k);
    if (observer) observer(step, true, true);
    InLayer(*step.layer, [&] { step.layer->Forward(ctx, step.bottom, step.top); });
    if (observer) observer(step, true, false);
    for (const Blob* top : step.top) {
      for (const auto& use : value_of_[top]->uses) {
        changed |= use->blob->shape() != top->shape();
        top->HandNumbersTo(use->blob.get());
      }
    }
  }
}

// Takes over new sizes of a step's bottoms, made by an earlier step of this Forward, into its tops.
void Net::FollowShapes(const Context& ctx, size_t k) {
  Step& step = steps_[k];
  for (Blob* bottom : step.bottom) {
    bottom->ReshapeLike(*value_of_[bottom]->blob);
    bottom->BindShape();
  }
  step.layer->Reshape(ctx, step.bottom, step.top);
  for (Blob* top : step.top) top->BindShape();
}

void Net::Backward(const Context& ctx, const std::function<void(Param&)>& done) {
  CHECK(options_.backward) << "Backward of a net built without it";
  // A gradient that starts filled does so when the last step that reads the blob runs backward, or, without
  // one, just before its maker does.
  std::vector<std::vector<Value*>> fill_at(steps_.size());
  for (const auto& value : values_) {
    if (!value->starts_filled) continue;
    size_t at = value->step;
    for (const auto& use : value->uses) {
      if (use->blob->needs_grad()) at = std::max(at, use->step);
    }
    fill_at[at].push_back(value.get());
  }
  for (size_t k = steps_.size(); k-- > 0;) {
    for (Value* value : fill_at[k]) {
      const double scale = Has16Bits(value->blob->dtype()) ? ctx.grad_scale : 1;
      ForBlob(value->blob->dtype(), [&]<class T, class S>() {
        const S grad = static_cast<S>(static_cast<T>(value->loss_weight * scale));
        ForEach(ctx, value->blob->count(), SetTo<S>{value->blob->grad<S>(), grad});
      });
    }
    const Step& step = steps_[k];
    if (!step.backward) continue;
    for (const auto& value : values_) {
      if (!value->recomputed || value->again_at != k) continue;
      value->Bind(value->backward_data);
      const Step& maker = steps_[value->step];
      InLayer(*maker.layer, [&] { maker.layer->Recompute(ctx, maker.bottom, maker.top); });
    }
    if (observer) observer(step, false, true);
    InLayer(*step.layer, [&] { step.layer->Backward(ctx, step.top, step.bottom); });
    AccumulateFanOut(ctx, k);
    if (observer) observer(step, false, false);
    if (!done) continue;
    for (const auto& param : step.layer->params()) {
      if (last_contribution_.at(param.get()) == k) done(*param);
    }
  }
}

// Adds the gradients that went to memory of their own to those of the values.
void Net::AccumulateFanOut(const Context& ctx, size_t step) {
  for (const auto& value : values_) {
    for (const auto& use : value->uses) {
      if (use->step != step || !use->own_grad || !use->blob->needs_grad()) continue;
      ForBlob(use->blob->dtype(), [&]<class T, class S>() {
        ForEach(ctx, use->blob->count(), AddTo<T, S>{value->blob->grad<S>(), use->blob->grad<S>()});
      });
    }
  }
}

void Net::ZeroParamGrads() {
  for (Param* param : params_) {
    if (!param->grad.empty()) param->grad.Zero();
    param->rows.clear();
    param->row_grad = Tensor();  // gone before the next one comes
  }
}

void Net::ReshapeInput(const Context& ctx, const std::string& name, const Shape& shape) {
  Value& input = value(name);
  Layer* layer = steps_[input.step].layer;
  Require(layer->type() == "Input", "blob '", name, "' is made by a layer of type ", layer->type(),
          "; expected Input");
  const auto& tops = steps_[input.step].top;
  const int index = static_cast<int>(std::find(tops.begin(), tops.end(), input.blob.get()) - tops.begin());
  InputParameter* spec = layer->mutable_spec()->mutable_input_param();
  while (spec->shape_size() < static_cast<int>(tops.size())) *spec->add_shape() = spec->shape(0);
  spec->mutable_shape(index)->clear_dim();
  for (int64_t size : shape) spec->mutable_shape(index)->add_dim(size);
  InferShapes(ctx);
  PlanMemory(ctx);
}

void Net::SetInput(const std::string& name, const std::vector<float>& values) {
  Blob& blob = *value(name).blob;
  Require(static_cast<int64_t>(values.size()) == blob.count(), "blob '", name, "' of shape ",
          ToString(blob.shape()), " was given ", values.size(), " values; expected ", blob.count());
  WriteFloats(values, &blob.data());
}

Net::Value& Net::value(const std::string& name) const {
  const auto found = last_version_.find(name);
  Require(found != last_version_.end(), "net '", spec_.name(), "' has no blob '", name, "'");
  return *found->second;
}

bool Net::has_blob(const std::string& name) const {
  return last_version_.count(name) > 0;
}
const Blob& Net::blob(const std::string& name) const {
  return *value(name).blob;
}

std::vector<float> Net::BlobValues(const std::string& name) const {
  return ToCaffeOrder(blob(name).data());
}

std::vector<float> Net::BlobGrads(const std::string& name) const {
  Require(!blob(name).grad().empty(), "blob '", name, "' has no gradient");
  return ToCaffeOrder(blob(name).grad());
}

std::vector<std::string> Net::blob_names() const {
  std::vector<std::string> names;
  for (const auto& value : values_) {
    const std::string& name = value->blob->name();
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

std::vector<Net::Output> Net::outputs() const {
  std::vector<Output> outputs;
  for (const auto& value : values_) {
    if (!value->uses.empty()) continue;
    outputs.push_back({value->blob->name(), value->loss_weight, ToCaffeOrder(value->blob->data())});
  }
  return outputs;
}

Layer* Net::layer(const std::string& name) const {
  for (const auto& layer : layers_) {
    if (layer->name() == name) return layer.get();
  }
  return nullptr;
}

int64_t Net::batch_size() const {
  return values_.front()->blob->num();
}

}  // namespace crema
