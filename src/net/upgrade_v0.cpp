// Layers as they were written in 2013, with all parameters in one message and names of types in lower case,
// into those of 2014.
#include <algorithm>
#include <map>

#include "crema/error.hpp"
#include "net/upgrade.hpp"

namespace crema {
namespace {

namespace pb = google::protobuf;
using Field = pb::FieldDescriptor;

V1LayerParameter::LayerType TypeOfV0(const std::string& type, const std::string& name,
                                     const std::string& from) {
  static const std::map<std::string, V1LayerParameter::LayerType> kTypes = {
      {"accuracy", V1LayerParameter::ACCURACY},
      {"bnll", V1LayerParameter::BNLL},
      {"concat", V1LayerParameter::CONCAT},
      {"conv", V1LayerParameter::CONVOLUTION},
      {"data", V1LayerParameter::DATA},
      {"dropout", V1LayerParameter::DROPOUT},
      {"euclidean_loss", V1LayerParameter::EUCLIDEAN_LOSS},
      {"flatten", V1LayerParameter::FLATTEN},
      {"hdf5_data", V1LayerParameter::HDF5_DATA},
      {"hdf5_output", V1LayerParameter::HDF5_OUTPUT},
      {"im2col", V1LayerParameter::IM2COL},
      {"images", V1LayerParameter::IMAGE_DATA},
      {"infogain_loss", V1LayerParameter::INFOGAIN_LOSS},
      {"innerproduct", V1LayerParameter::INNER_PRODUCT},
      {"lrn", V1LayerParameter::LRN},
      {"multinomial_logistic_loss", V1LayerParameter::MULTINOMIAL_LOGISTIC_LOSS},
      {"pool", V1LayerParameter::POOLING},
      {"relu", V1LayerParameter::RELU},
      {"sigmoid", V1LayerParameter::SIGMOID},
      {"softmax", V1LayerParameter::SOFTMAX},
      {"softmax_loss", V1LayerParameter::SOFTMAX_LOSS},
      {"split", V1LayerParameter::SPLIT},
      {"tanh", V1LayerParameter::TANH},
      {"window_data", V1LayerParameter::WINDOW_DATA},
  };
  const auto found = kTypes.find(type);
  Require(found != kTypes.end(), from, ": layer '", name, "' has the type '", type,
          "', which Caffe of 2013 did not have");
  return found->second;
}

// Where a field goes in a layer of a type; no type: in any.
struct Place {
  const char *field, *type, *message, *target;
};
constexpr Place kPlaces[] = {
    {"num_output", "conv", "convolution_param", "num_output"},
    {"num_output", "innerproduct", "inner_product_param", "num_output"},
    {"biasterm", "conv", "convolution_param", "bias_term"},
    {"biasterm", "innerproduct", "inner_product_param", "bias_term"},
    {"weight_filler", "conv", "convolution_param", "weight_filler"},
    {"weight_filler", "innerproduct", "inner_product_param", "weight_filler"},
    {"bias_filler", "conv", "convolution_param", "bias_filler"},
    {"bias_filler", "innerproduct", "inner_product_param", "bias_filler"},
    {"pad", "conv", "convolution_param", "pad"},
    {"pad", "pool", "pooling_param", "pad"},
    {"kernelsize", "conv", "convolution_param", "kernel_size"},
    {"kernelsize", "pool", "pooling_param", "kernel_size"},
    {"group", "conv", "convolution_param", "group"},
    {"stride", "conv", "convolution_param", "stride"},
    {"stride", "pool", "pooling_param", "stride"},
    {"pool", "pool", "pooling_param", "pool"},
    {"dropout_ratio", "dropout", "dropout_param", "dropout_ratio"},
    {"local_size", "lrn", "lrn_param", "local_size"},
    {"alpha", "lrn", "lrn_param", "alpha"},
    {"beta", "lrn", "lrn_param", "beta"},
    {"k", "lrn", "lrn_param", "k"},
    {"source", "data", "data_param", "source"},
    {"source", "hdf5_data", "hdf5_data_param", "source"},
    {"source", "images", "image_data_param", "source"},
    {"source", "infogain_loss", "infogain_loss_param", "source"},
    {"batchsize", "data", "data_param", "batch_size"},
    {"batchsize", "hdf5_data", "hdf5_data_param", "batch_size"},
    {"batchsize", "images", "image_data_param", "batch_size"},
    {"rand_skip", "data", "data_param", "rand_skip"},
    {"rand_skip", "images", "image_data_param", "rand_skip"},
    {"shuffle_images", "images", "image_data_param", "shuffle"},
    {"new_height", "images", "image_data_param", "new_height"},
    {"new_width", "images", "image_data_param", "new_width"},
    {"scale", "", "transform_param", "scale"},
    {"meanfile", "", "transform_param", "mean_file"},
    {"cropsize", "", "transform_param", "crop_size"},
    {"mirror", "", "transform_param", "mirror"},
    {"concat_dim", "concat", "concat_param", "concat_dim"},
    {"hdf5_output_param", "hdf5_output", "hdf5_output_param", ""},
};

int64_t WholeOf(const pb::Message& from, const Field& field) {
  const pb::Reflection& get = *from.GetReflection();
  if (field.cpp_type() == Field::CPPTYPE_INT32) return get.GetInt32(from, &field);
  if (field.cpp_type() == Field::CPPTYPE_UINT32) return get.GetUInt32(from, &field);
  return get.GetEnumValue(from, &field);
}

// A field that is set into one of the same kind, which may be repeated or have another type of whole numbers.
void CopyField(const pb::Message& from, const Field& source, pb::Message* to, const Field& target) {
  const pb::Reflection &get = *from.GetReflection(), &set = *to->GetReflection();
  switch (target.cpp_type()) {
    case Field::CPPTYPE_MESSAGE:
      set.MutableMessage(to, &target)->CopyFrom(get.GetMessage(from, &source));
      break;
    case Field::CPPTYPE_STRING:
      set.SetString(to, &target, get.GetString(from, &source));
      break;
    case Field::CPPTYPE_FLOAT:
      set.SetFloat(to, &target, get.GetFloat(from, &source));
      break;
    case Field::CPPTYPE_BOOL:
      set.SetBool(to, &target, get.GetBool(from, &source));
      break;
    case Field::CPPTYPE_ENUM:
      set.SetEnumValue(to, &target, static_cast<int>(WholeOf(from, source)));
      break;
    case Field::CPPTYPE_UINT32: {
      const uint32_t value = static_cast<uint32_t>(WholeOf(from, source));
      target.is_repeated() ? set.AddUInt32(to, &target, value) : set.SetUInt32(to, &target, value);
      break;
    }
    default:
      Fail("the field ", target.full_name(), " has a type that no layer of 2013 had");
  }
}

const Place* PlaceOf(const std::string& field, const std::string& type) {
  for (const Place& place : kPlaces)
    if (field == place.field && (type == place.type || *place.type == '\0')) return &place;
  return nullptr;
}

// Parameters of a layer of 2013 to where those of 2014 have them.
void MoveParameters(const V0LayerParameter& old, const std::string& from, V1LayerParameter* layer,
                    std::vector<std::string>* notes) {
  std::vector<const Field*> fields;
  old.GetReflection()->ListFields(old, &fields);
  for (const Field* field : fields) {
    const std::string& name = field->name();
    if (name == "name" || name == "type" || name == "blobs" || name == "blobs_lr" || name == "weight_decay")
      continue;
    const Place* place = PlaceOf(name, old.type());
    if (place == nullptr) {
      notes->push_back(Concat(from, ": layer '", old.name(), "' of type '", old.type(), "' has ", name,
                              ", which means nothing there and is skipped"));
      continue;
    }
    const Field* message = V1LayerParameter::descriptor()->FindFieldByName(place->message);
    pb::Message* parameters = layer->GetReflection()->MutableMessage(layer, message);
    if (*place->target == '\0') {
      parameters->CopyFrom(old.GetReflection()->GetMessage(old, field));
    } else {
      CopyField(old, *field, parameters, *message->message_type()->FindFieldByName(place->target));
    }
  }
}

// Padding layers leave the net: what reads one reads its bottom instead and pads itself.
void MergePaddings(NetParameter* net, const std::string& from) {
  std::map<std::string, V1LayerParameter> padding_of;  // by the name of its top
  pb::RepeatedPtrField<V1LayerParameter> kept;
  for (V1LayerParameter& layer : *net->mutable_layers()) {
    const std::string& type = layer.layer().type();
    for (std::string& bottom : *layer.mutable_bottom()) {
      const auto found = padding_of.find(bottom);
      if (found == padding_of.end()) continue;
      Require((type == "conv" || type == "pool") && layer.bottom_size() == 1, from, ": layer '",
              layer.layer().name(), "' of type '", type, "' with ", layer.bottom_size(),
              " bottoms reads the padding layer '", found->second.layer().name(),
              "'; a conv or pool layer with one bottom was expected");
      layer.mutable_layer()->set_pad(found->second.layer().pad());
      bottom = std::string(found->second.bottom(0));
    }
    for (const std::string& top : layer.top()) padding_of.erase(top);
    if (type != "padding") {
      kept.Add()->Swap(&layer);
      continue;
    }
    Require(layer.bottom_size() == 1 && layer.top_size() == 1, from, ": the padding layer '",
            layer.layer().name(), "' has ", layer.bottom_size(), " bottoms and ", layer.top_size(),
            " tops; one of each was expected");
    padding_of[layer.top(0)] = layer;
  }
  net->mutable_layers()->Swap(&kept);
}

}  // namespace

bool HasV0Layers(const NetParameter& net) {
  return std::any_of(net.layers().begin(), net.layers().end(),
                     [](const auto& layer) { return layer.has_layer(); });
}

void UpgradeV0Layers(NetParameter* net, const std::string& from, std::vector<std::string>* notes) {
  for (const V1LayerParameter& layer : net->layers())
    Require(layer.has_layer(), from, ": layers '", layer.name(),
            "' is of 2014, others of the file are of 2013 (layers { layer { ... } }); one kind was expected");
  MergePaddings(net, from);
  for (V1LayerParameter& layer : *net->mutable_layers()) {
    V0LayerParameter old;
    old.Swap(layer.mutable_layer());
    layer.clear_layer();
    layer.set_name(old.name());
    layer.set_type(TypeOfV0(old.type(), old.name(), from));
    layer.mutable_blobs()->Swap(old.mutable_blobs());
    layer.mutable_blobs_lr()->Swap(old.mutable_blobs_lr());
    layer.mutable_weight_decay()->Swap(old.mutable_weight_decay());
    MoveParameters(old, from, &layer, notes);
  }
}

}  // namespace crema
