#include "crema/net.hpp"

#include <algorithm>

#include <glog/logging.h>

#include "net/filter.hpp"
#include "net/net_values.hpp"
#include "net/reorder.hpp"

namespace crema {

Net::Net(const Context& ctx, const NetParameter& spec, const NetOptions& options)
    : spec_(FilterNet(spec, options)), options_(options) {
  for (const LayerParameter& layer : spec_.layer()) AddLayer(ctx, layer);
  Require(!steps_.empty(), "net '", spec.name(), "' has no layers in phase ", Phase_Name(options.phase));
  if (spec_.fuse() && !options_.keep_blobs && !spec_.debug_info()) Fuse(ctx);
  if (options_.backward) MarkGradients();
  AllocateParams(ctx);
  PlanMemory(ctx);
}

Net::~Net() = default;

void Net::AddLayer(const Context& ctx, const LayerParameter& spec) {
  Require(!spec.name().empty(), "a layer of type '", spec.type(), "' has no name");
  Require(layer(spec.name()) == nullptr, "two layers have the name '", spec.name(), "'");
  layers_.push_back(NewLayer(spec));
  Layer* made = layers_.back().get();
  const Layer::Arity arity = made->arity();
  const auto check_count = [&](const char* what, int found, int least, int most) {
    Require(found >= least && (most < 0 || found <= most), "layer '", spec.name(), "' (", spec.type(),
            ") has ", found, " ", what, "; expected ",
            least == most ? Concat(least)
            : most < 0    ? Concat("at least ", least)
                          : Concat(least, " to ", most));
  };
  check_count("bottoms", spec.bottom_size(), arity.min_bottom, arity.max_bottom);
  check_count("tops", spec.top_size(), arity.min_top, arity.max_top);
  std::vector<Value*> bottom, top;
  for (int i = 0; i < spec.bottom_size(); ++i) bottom.push_back(FindBottom(spec, i));

  int64_t first_block = 1;  // of the first four-axis bottom; 1 where it does not suit the others
  for (auto it = bottom.rbegin(); it != bottom.rend(); ++it) {
    if ((*it)->blob->axes() == 4) first_block = (*it)->blob->block();
  }
  for (const Value* value : bottom) {
    if (value->blob->axes() == 4 && value->blob->channels() % first_block != 0) first_block = 1;
  }
  bool in_16_bits = made->bits16() == Bits16::kWants && Has16Bits(ctx.activations);
  // What has no gradient may be numbers that 16 bits do not hold, as those of samples: it stays what it is.
  const auto has_gradient = [&](size_t k) { return made->BottomHasGradient(static_cast<int>(k)); };
  for (size_t k = 0; k < bottom.size(); ++k) {
    const bool leads = made->bits16() == Bits16::kFollows && (k == 0 || has_gradient(k));
    in_16_bits |= leads && Has16Bits(bottom[k]->blob->dtype());
  }
  for (size_t k = 0; k < bottom.size(); ++k) {
    const DType narrow = has_gradient(k) ? ctx.activations : bottom[k]->blob->dtype();
    bottom[k] = Suited(ctx, *made, bottom[k], in_16_bits ? narrow : ctx.real, first_block);
  }
  for (int i = 0; i < spec.top_size(); ++i) top.push_back(AddTop(spec, i));
  AddStep(ctx, made, bottom, top);
  ShareParams(made);
}

Net::Value* Net::FindBottom(const LayerParameter& spec, int index) {
  const auto found = last_version_.find(spec.bottom(index));
  if (found == last_version_.end()) {
    std::string known;
    for (const auto& [name, value] : last_version_) known += (known.empty() ? "" : ", ") + name;
    if (known.size() > 300) known = known.substr(0, 300) + "...";
    Fail("layer '", spec.name(), "' (", spec.type(), "): unknown bottom blob '", spec.bottom(index),
         "' (bottom ", index, "); no layer above it makes one; known are ", known.empty() ? "none" : known);
  }
  return found->second;
}

// A top of a bottom's name is a new version of it; any other known name would hide a blob by mistake.
Net::Value* Net::AddTop(const LayerParameter& spec, int index) {
  const std::string& name = spec.top(index);
  const bool in_place = std::find(spec.bottom().begin(), spec.bottom().end(), name) != spec.bottom().end();
  Require(in_place || last_version_.count(name) == 0, "layer '", spec.name(), "' (", spec.type(),
          "): top blob '", name, "' is already made by another layer");
  values_.push_back(std::make_unique<Value>());
  Value* value = values_.back().get();
  value->blob = std::make_unique<Blob>(name);
  last_version_[name] = value;
  const bool is_default_loss = layers_.back()->IsLoss() && index == 0 && spec.loss_weight_size() == 0;
  value->loss_weight = is_default_loss ? 1 : index < spec.loss_weight_size() ? spec.loss_weight(index) : 0;
  return value;
}

void Net::AddStep(const Context& ctx, Layer* layer, const std::vector<Value*>& bottom,
                  const std::vector<Value*>& top) {
  Step step{layer, {}, {}, false};
  for (Value* value : bottom) {
    auto use = std::make_unique<Use>();
    use->value = value;
    use->step = steps_.size();
    use->blob = std::make_unique<Blob>(value->blob->name());
    use->blob->ReshapeLike(*value->blob);
    use->blob->set_placement(value->blob->placement());
    step.bottom.push_back(use->blob.get());
    value_of_[use->blob.get()] = value;
    Require(value->blob->placement() != Placement::kClass || layer->TakesClassPlacement(), "layer '",
            layer->name(), "' (", layer->type(), "): bottom blob '", value->blob->name(),
            "' has its classes spread over the ranks, which this type cannot take; MarginSoftmax can");
    value->uses.push_back(std::move(use));
  }
  for (Value* value : top) {
    value->step = steps_.size();
    value_of_[value->blob.get()] = value;
    step.top.push_back(value->blob.get());
  }
  layer->Reshape(ctx, step.bottom, step.top);
  steps_.push_back(std::move(step));
}

// A bottom in the layout and the type of elements that its layer takes.
Net::Value* Net::Suited(const Context& ctx, const Layer& layer, Value* value, DType real,
                        int64_t first_block) {
  const Blob& blob = *value->blob;
  const bool is_real = RealOf(blob.dtype()) == ctx.real;
  const DType dtype = is_real ? real : blob.dtype();
  const int64_t block = blob.axes() != 4                     ? blob.block()
                        : layer.layouts() == Layouts::kCaffe ? 1
                        : layer.layouts() == Layouts::kDevice
                            ? ctx.device->ChannelBlock(dtype, blob.channels())
                            : first_block;
  return Reordered(ctx, value, dtype, block);
}

Net::Value* Net::Reordered(const Context& ctx, Value* value, DType dtype, int64_t block) {
  if (value->blob->block() == block && value->blob->dtype() == dtype) return value;
  Value*& reordered = reordered_[{value, dtype, block}];
  if (reordered != nullptr) return reordered;
  LayerParameter spec;
  spec.set_name(Concat(value->blob->name(), "_in_blocks_of_", block));
  if (dtype != value->blob->dtype()) spec.set_name(Concat(value->blob->name(), "_as_", NameOf(dtype)));
  spec.set_type("Reorder");
  spec.set_phase(options_.phase);
  made_layers_.push_back(std::make_unique<Reorder>(spec, dtype, block));
  values_.push_back(std::make_unique<Value>());
  reordered = values_.back().get();
  reordered->blob = std::make_unique<Blob>(value->blob->name());
  AddStep(ctx, made_layers_.back().get(), {value}, {reordered});
  return reordered;
}

// Params of one name are one object, owned by the first layer; a net beside another takes the other's.
void Net::ShareParams(Layer* layer) {
  const Layer* other = options_.share != nullptr ? options_.share->layer(layer->name()) : nullptr;
  for (size_t i = 0; i < layer->params().size(); ++i) {
    std::shared_ptr<Param>& param = layer->params()[i];
    if (other != nullptr) {
      auto& theirs = const_cast<Layer*>(other)->params();
      Require(i < theirs.size() && theirs[i]->shape == param->shape, "layer '", layer->name(), "' (",
              layer->type(), "): its weight ", i, " of shape ", ToString(param->shape),
              " does not fit that of the training net",
              i < theirs.size() ? ", " + ToString(theirs[i]->shape) : "");
      param = theirs[i];
    }
    const auto& specs = layer->spec().param();
    const std::string name = static_cast<int>(i) < specs.size() ? specs[static_cast<int>(i)].name() : "";
    if (name.empty()) continue;
    auto [owner, is_new] = named_params_.emplace(name, param);
    if (is_new) continue;
    const ParamSpec& spec = specs[static_cast<int>(i)];
    const bool fits = spec.share_mode() == ParamSpec::PERMISSIVE
                          ? CountOf(owner->second->shape) == CountOf(param->shape)
                          : owner->second->shape == param->shape;
    Require(fits, "layer '", layer->name(), "' (", layer->type(), "): the shared weight '", name,
            "' has shape ", ToString(owner->second->shape), " in layer '", owner->second->name, "', here ",
            ToString(param->shape));
    if (spec.has_lr_mult()) owner->second->lr_mult = spec.lr_mult();
    if (spec.has_decay_mult()) owner->second->decay_mult = spec.decay_mult();
    param = owner->second;
  }
}

// Decides which steps run backward and which blobs have gradients: those between a weight and a loss.
void Net::MarkGradients() {
  const auto propagates = [](const Step& step, size_t i) {
    const auto& down = step.layer->spec().propagate_down();
    return step.layer->BottomHasGradient(static_cast<int>(i)) && (down.empty() || down[static_cast<int>(i)]);
  };
  const auto is_real = [](const Blob& blob) { return blob.dtype() != DType::kI64; };
  for (Step& step : steps_) {  // below: is there a weight under it?
    for (const auto& param : step.layer->params()) step.backward |= param->needs_grad();
    for (size_t i = 0; i < step.bottom.size(); ++i) {
      const Value* value = value_of_[step.bottom[i]];
      const bool wanted = value->blob->needs_grad() && propagates(step, i);
      step.bottom[i]->set_needs_grad(wanted);
      step.backward |= wanted;
    }
    const bool forced = spec_.force_backward() && !step.layer->IsSource() && step.layer->type() != "Input";
    for (Blob* top : step.top)
      top->set_needs_grad(is_real(*top) && (step.backward || spec_.force_backward()));
    step.backward |= forced;
    if (forced) {
      for (size_t i = 0; i < step.bottom.size(); ++i) step.bottom[i]->set_needs_grad(propagates(step, i));
    }
  }
  for (size_t k = steps_.size(); k-- > 0;) {  // above: does it lead to a loss?
    Step& step = steps_[k];
    bool leads_to_loss = false;
    for (const auto& value : values_) {
      if (value->step != k) continue;
      bool used = value->loss_weight != 0;
      for (const auto& use : value->uses) used |= use->blob->needs_grad();
      value->starts_filled = is_real(*value->blob) && (value->loss_weight != 0 || !used);
      leads_to_loss |= used;
    }
    if (leads_to_loss) continue;
    step.backward = false;
    for (Blob* bottom : step.bottom) bottom->set_needs_grad(false);
  }
  for (const auto& value : values_) {
    Step& maker = steps_[value->step];
    if (!maker.backward) value->starts_filled = false;
    const bool leaf = maker.bottom.empty() && spec_.force_backward();  // an input whose gradient is wanted
    if (!maker.backward && !leaf) value->blob->set_needs_grad(false);
    bool direct =
        !value->starts_filled;  // the last use (the first to run backward) writes the gradient itself
    for (auto use = value->uses.rbegin(); use != value->uses.rend(); ++use) {
      if (!(*use)->blob->needs_grad()) continue;
      (*use)->own_grad = !direct;
      direct = false;
    }
  }
}

void Net::AllocateParams(const Context& ctx) {
  for (const auto& layer : layers_) {
    for (const auto& param : layer->params()) {
      if (std::find(params_.begin(), params_.end(), param.get()) == params_.end())
        params_.push_back(param.get());
    }
  }
  for (Param* param : params_) {
    if (param->value.empty() && !options_.dry) {
      param->value = param->NewTensor(*ctx.device);
      FillParam(ctx, param);
    }
    plan_.params += param->bytes();
  }
  if (!options_.backward) return;
  // One piece of memory in the order in which gradients are completed, so that neighbours travel together.
  int64_t bytes = 0;
  const auto has_grad = [](const Param& param) {
    return param.needs_grad() && !param.row_sparse && param.grad.empty();
  };
  const auto aligned = [](int64_t size) { return (size + 63) / 64 * 64; };
  for (const Param* param : params_) bytes += has_grad(*param) ? aligned(param->bytes()) : 0;
  plan_.param_grads = bytes;
  if (options_.dry) return;
  std::shared_ptr<void> memory = ctx.device->Allocate(std::max<int64_t>(bytes, 64));
  int64_t offset = 0;
  for (auto it = params_.rbegin(); it != params_.rend(); ++it) {
    Param& param = **it;
    if (!has_grad(param)) continue;
    param.grad = Tensor(*ctx.device, param.dtype, param.shape, 1, memory, offset);
    param.grad.Zero();
    offset += aligned(param.bytes());
  }
  for (size_t k = steps_.size(); k-- > 0;) {
    if (!steps_[k].backward) continue;
    for (const auto& param : steps_[k].layer->params()) last_contribution_[param.get()] = k;
  }
}

}  // namespace crema
