// Layers as they were written in 2014, `layers { type: CONVOLUTION blobs_lr: 1 }`, into today's.
#include <algorithm>
#include <cctype>
#include <map>

#include "crema/error.hpp"
#include "net/upgrade.hpp"

namespace crema {
namespace {

namespace pb = google::protobuf;

// Returns whether it moved anything. `older` is a data layer's own message.
template <class Message>
bool MoveTransform(Message* older, TransformationParameter* transform) {
  const bool any =
      older->has_scale() || older->has_mean_file() || older->has_crop_size() || older->has_mirror();
  if (older->has_scale()) transform->set_scale(older->scale());
  if (older->has_mean_file()) transform->set_mean_file(older->mean_file());
  if (older->has_crop_size()) transform->set_crop_size(older->crop_size());
  if (older->has_mirror()) transform->set_mirror(older->mirror());
  older->clear_scale(), older->clear_mean_file(), older->clear_crop_size(), older->clear_mirror();
  return any;
}

// INNER_PRODUCT is InnerProduct; some have names of their own.
std::string TypeOfV1(V1LayerParameter::LayerType type) {
  static const std::map<V1LayerParameter::LayerType, std::string> kOwn = {
      {V1LayerParameter::ABSVAL, "AbsVal"}, {V1LayerParameter::ARGMAX, "ArgMax"},
      {V1LayerParameter::BNLL, "BNLL"},     {V1LayerParameter::HDF5_DATA, "HDF5Data"},
      {V1LayerParameter::LRN, "LRN"},       {V1LayerParameter::HDF5_OUTPUT, "HDF5Output"},
      {V1LayerParameter::MVN, "MVN"},       {V1LayerParameter::RELU, "ReLU"},
      {V1LayerParameter::TANH, "TanH"},     {V1LayerParameter::SOFTMAX_LOSS, "SoftmaxWithLoss"},
  };
  const auto own = kOwn.find(type);
  if (own != kOwn.end()) return own->second;
  std::string name;
  bool begins = true;
  for (char c : V1LayerParameter::LayerType_Name(type)) {
    if (c != '_') name += begins ? c : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    begins = c == '_';
  }
  return name;
}

// The params of the weights, of which each list of 2014 tells one thing.
void MoveParamSpecs(const V1LayerParameter& old, LayerParameter* layer) {
  const int count =
      std::max({old.param_size(), old.blob_share_mode_size(), old.blobs_lr_size(), old.weight_decay_size()});
  for (int i = 0; i < count; ++i) {
    ParamSpec* param = layer->add_param();
    if (i < old.param_size()) param->set_name(old.param(i));
    if (i < old.blob_share_mode_size()) param->set_share_mode(old.blob_share_mode(i));
    if (i < old.blobs_lr_size()) param->set_lr_mult(old.blobs_lr(i));
    if (i < old.weight_decay_size()) param->set_decay_mult(old.weight_decay(i));
  }
}

// Every message of parameters has the same name in both.
void MoveMessages(const V1LayerParameter& old, LayerParameter* layer) {
  std::vector<const pb::FieldDescriptor*> fields;
  old.GetReflection()->ListFields(old, &fields);
  for (const pb::FieldDescriptor* field : fields) {
    if (field->is_repeated() || field->message_type() == nullptr) continue;
    const pb::FieldDescriptor* target = LayerParameter::descriptor()->FindFieldByName(field->name());
    if (target == nullptr) continue;
    layer->GetReflection()
        ->MutableMessage(layer, target)
        ->CopyFrom(old.GetReflection()->GetMessage(old, field));
  }
}

}  // namespace

bool MoveTransforms(NetParameter* net) {
  bool any = false;
  for (V1LayerParameter& layer : *net->mutable_layers()) {
    TransformationParameter transform = layer.transform_param();
    bool moved = false;
    if (layer.type() == V1LayerParameter::DATA) moved = MoveTransform(layer.mutable_data_param(), &transform);
    if (layer.type() == V1LayerParameter::IMAGE_DATA)
      moved = MoveTransform(layer.mutable_image_data_param(), &transform);
    if (moved) *layer.mutable_transform_param() = transform;
    any = any || moved;
  }
  return any;
}

void UpgradeV1Layers(NetParameter* net, const std::string& from) {
  Require(net->layer_size() == 0, from,
          " has both `layer` and `layers`, the older spelling; one of them was expected");
  for (V1LayerParameter& old : *net->mutable_layers()) {
    Require(old.type() != V1LayerParameter::NONE, from, ": layer '", old.name(), "' has no type");
    LayerParameter* layer = net->add_layer();
    layer->set_name(old.name());
    layer->set_type(TypeOfV1(old.type()));
    layer->mutable_bottom()->Swap(old.mutable_bottom());
    layer->mutable_top()->Swap(old.mutable_top());
    layer->mutable_include()->Swap(old.mutable_include());
    layer->mutable_exclude()->Swap(old.mutable_exclude());
    layer->mutable_loss_weight()->Swap(old.mutable_loss_weight());
    layer->mutable_blobs()->Swap(old.mutable_blobs());
    MoveParamSpecs(old, layer);
    MoveMessages(old, layer);
  }
  net->clear_layers();
}

}  // namespace crema
