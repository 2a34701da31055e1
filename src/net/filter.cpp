#include "net/filter.hpp"

#include <algorithm>

#include "crema/caffe_files.hpp"

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

}  // namespace

NetParameter FilterNet(const NetParameter& spec, const NetOptions& options) {
  NetParameter out = spec;
  UpgradeNet(&out, Concat("net '", spec.name(), "'"));
  google::protobuf::RepeatedPtrField<LayerParameter> all;
  all.Swap(out.mutable_layer());
  for (LayerParameter& layer : all) {
    if (Included(layer, options)) out.add_layer()->Swap(&layer);
  }
  for (LayerParameter& layer : *out.mutable_layer()) layer.set_phase(options.phase);
  return out;
}

}  // namespace crema
