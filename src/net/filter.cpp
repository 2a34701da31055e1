#include "net/filter.hpp"

#include <algorithm>

namespace crema {

namespace {

bool Meets(const NetStateRule& rule, const NetOptions& state) {
  const auto has_stage = [&](const std::string& stage) {
    return std::find(state.stages.begin(), state.stages.end(), stage) != state.stages.end();
  };
  return (!rule.has_phase() || rule.phase() == state.phase) &&
         (!rule.has_min_level() || state.level >= rule.min_level()) &&
         (!rule.has_max_level() || state.level <= rule.max_level()) &&
         std::all_of(rule.stage().begin(), rule.stage().end(), has_stage) &&
         std::none_of(rule.not_stage().begin(), rule.not_stage().end(), has_stage);
}

bool Included(const LayerParameter& layer, const NetOptions& state) {
  Require(layer.include_size() == 0 || layer.exclude_size() == 0, "layer '", layer.name(),
          "' has both include and exclude rules; expected one kind");
  const auto meets = [&](const NetStateRule& rule) { return Meets(rule, state); };
  if (layer.include_size() > 0) return std::any_of(layer.include().begin(), layer.include().end(), meets);
  return std::none_of(layer.exclude().begin(), layer.exclude().end(), meets);
}

// The net's own `input` fields as an Input layer.
void AddInputLayer(const NetParameter& spec, NetParameter* out) {
  if (spec.input_size() == 0) return;
  LayerParameter* layer = out->add_layer();
  layer->set_name("input");
  layer->set_type("Input");
  Require(spec.input_shape_size() == 0 || spec.input_dim_size() == 0, "net '", spec.name(),
          "' has both input_shape and input_dim; expected one of them");
  const int shapes = spec.input_shape_size() > 0 ? spec.input_shape_size() : spec.input_dim_size() / 4;
  Require(shapes == spec.input_size(), "net '", spec.name(), "' has ", spec.input_size(),
          " inputs, but shapes of ", shapes);
  for (int i = 0; i < spec.input_size(); ++i) {
    layer->add_top(spec.input(i));
    BlobShape* shape = layer->mutable_input_param()->add_shape();
    if (spec.input_shape_size() > 0) {
      *shape = spec.input_shape(i);
    } else {
      for (int axis = 0; axis < 4; ++axis) shape->add_dim(spec.input_dim(4 * i + axis));
    }
  }
}

}  // namespace

NetParameter FilterNet(const NetParameter& spec, const NetOptions& options) {
  NetParameter out = spec;
  out.clear_layer();
  out.clear_input();
  out.clear_input_shape();
  out.clear_input_dim();
  AddInputLayer(spec, &out);
  for (const LayerParameter& layer : spec.layer()) {
    if (Included(layer, options)) *out.add_layer() = layer;
  }
  for (LayerParameter& layer : *out.mutable_layer()) layer.set_phase(options.phase);
  return out;
}

}  // namespace crema
