#include "crema/layer.hpp"

#include <algorithm>
#include <deque>
#include <numeric>

#include <glog/logging.h>

#include "net/dialects.hpp"

namespace crema {

// ------------------------------------------------------------------------------------------------- registry

namespace {

std::vector<const LayerType*>& MutableLayerTypes() {
  static std::vector<const LayerType*> types;
  return types;
}

// Levenshtein's distance, for "did you mean".
size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = diagonal + (std::tolower(a[i - 1]) != std::tolower(b[j - 1]));
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row.back();
}

const LayerType& FindType(const LayerParameter& spec) {
  const auto& types = LayerTypes();
  const LayerType* nearest = nullptr;
  for (const LayerType* type : types) {
    if (type->name == spec.type()) return *type;
    if (!nearest || EditDistance(type->name, spec.type()) < EditDistance(nearest->name, spec.type()))
      nearest = type;
  }
  const std::string advice = AdviceOnType(spec.type());
  Require(advice.empty(), "layer '", spec.name(), "' has the type '", spec.type(),
          "', which is not there: ", advice);
  const bool close = nearest && EditDistance(nearest->name, spec.type()) <= 3;
  Fail("layer '", spec.name(), "' has the unknown type '", spec.type(), "'",
       close ? "; did you mean '" + nearest->name + "'?" : "; docs/layers.md lists the known types");
}

void CheckParameterMessages(const LayerParameter& spec, const LayerType& type) {
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  spec.GetReflection()->ListFields(spec, &fields);
  for (const auto* field : fields) {
    const bool is_parameter = field->number() >= 100 && field->message_type() != nullptr;
    if (!is_parameter) continue;
    const auto& own = type.param_fields;
    if (std::find(own.begin(), own.end(), field->name()) != own.end()) continue;
    std::string expected;
    for (const std::string& name : own) expected += (expected.empty() ? "" : " or ") + name;
    Fail("layer '", spec.name(), "' of type ", type.name, " has a ", field->name(),
         ", which belongs to another type; ",
         expected.empty() ? "it takes no parameter message" : "expected " + expected);
  }
}

}  // namespace

LayerRegistration::LayerRegistration(LayerType type) {
  auto& types = MutableLayerTypes();
  for (const LayerType* other : types) CHECK_NE(other->name, type.name) << "layer type registered twice";
  static std::deque<LayerType> kept;  // whose elements stay where they are
  kept.push_back(std::move(type));
  types.insert(std::upper_bound(types.begin(), types.end(), &kept.back(),
                                [](const LayerType* a, const LayerType* b) { return a->name < b->name; }),
               &kept.back());
}

const std::vector<const LayerType*>& LayerTypes() {
  return MutableLayerTypes();
}

std::unique_ptr<Layer> NewLayer(const LayerParameter& spec) {
  const LayerType& type = FindType(spec);
  CheckParameterMessages(spec, type);
  return type.make(spec);
}

// ---------------------------------------------------------------------------------------------------- layer

void Layer::Backward(const Context&, const Blobs&, const Blobs&) {
  Fail("layer '", name(), "' (", type(), ") has no gradient");
}

Param& Layer::AddParam(size_t index, DType dtype, Shape shape, const FillerParameter& filler,
                       Param::Kind kind) {
  if (index < params_.size()) {
    Param& param = *params_[index];
    Check(param.shape == shape, "its weight ", index, " has shape ", ToString(param.shape),
          ", but the bottoms now ask for ", ToString(shape));
    return param;
  }
  CHECK_EQ(index, params_.size()) << name();
  auto param = std::make_shared<Param>();
  param->name = Concat(name(), "/", index);
  param->kind = kind;
  param->filler = filler;
  param->dtype = dtype;
  param->shape = std::move(shape);
  param->total_rows = param->shape.empty() ? 1 : param->shape[0];
  if (static_cast<int>(index) < spec_.param_size()) {
    param->lr_mult = spec_.param(static_cast<int>(index)).lr_mult();
    param->decay_mult = spec_.param(static_cast<int>(index)).decay_mult();
  }
  if (kind == Param::Kind::kStatistic) param->lr_mult = param->decay_mult = 0;
  params_.push_back(std::move(param));
  return *params_.back();
}

Labels LabelsOf(const Blob& blob) {
  Require(blob.dtype() == DType::kI64 || blob.dtype() == DType::kF32 || blob.dtype() == DType::kF64, "blob '",
          blob.name(), "' of ", NameOf(blob.dtype()), " found where labels were expected");
  return {blob.data().raw(), blob.dtype()};
}

}  // namespace crema
