#include "net/summary.hpp"

#include <algorithm>
#include <iomanip>
#include <set>
#include <sstream>

namespace crema {
namespace {

// Images N, C, H, W of a source as far as its parameters tell; 0 for what they do not.
Shape ImageOf(const LayerParameter& source) {
  const TransformationParameter& transform = source.transform_param();
  const ImageDataParameter& list = source.image_data_param();
  const MemoryDataParameter& memory = source.memory_data_param();
  if (source.has_memory_data_param())
    return {memory.batch_size(), memory.channels(), memory.height(), memory.width()};
  const bool gray = transform.force_gray() || !list.is_color();
  const bool by_mean = !gray && transform.mean_value_size() > 1;
  Shape image = {0,
                 gray      ? 1
                 : by_mean ? transform.mean_value_size()
                           : 0,
                 list.new_height(), list.new_width()};
  for (int64_t crop : {source.data_param().crop_size(), list.crop_size(), transform.crop_size()})
    if (crop > 0) image[2] = image[3] = crop;
  return image;
}

// The top that holds images.
int ImageTop(const LayerParameter& source) {
  if (source.type() != "HDF5Data") return 0;
  for (int i = 0; i < source.top_size(); ++i)
    for (const char* name : {"data", "image", "img"})
      if (source.top(i).find(name) != std::string::npos) return i;
  return 0;
}

LayerParameter InputLike(const LayerParameter& source, Shape image,
                         const std::map<std::string, Shape>& tops) {
  constexpr int64_t kUsual[] = {0, 3, 112, 112};
  const Shape own = ImageOf(source);
  for (size_t axis = 0; axis < 4; ++axis) {
    if (image[axis] == 0) image[axis] = axis == 0 ? SourceBatch(source) : own[axis];
    if (image[axis] == 0) image[axis] = kUsual[axis];
  }
  LayerParameter input;
  input.set_name(source.name());
  input.set_type("Input");
  *input.mutable_top() = source.top();
  *input.mutable_include() = source.include();
  *input.mutable_exclude() = source.exclude();
  for (int i = 0; i < source.top_size(); ++i) {
    const auto given = tops.find(source.top(i));
    Shape shape = given != tops.end() ? given->second : i == ImageTop(source) ? image : Shape{image[0]};
    if (!shape.empty() && shape[0] == 0) shape[0] = image[0];
    BlobShape* dims = input.mutable_input_param()->add_shape();
    for (int64_t size : shape) dims->add_dim(size);
  }
  return input;
}

std::string Join(const std::vector<std::string>& words, const char* separator) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : separator) + word;
  return all;
}

// 12,345,678
std::string Grouped(int64_t number) {
  std::string digits = std::to_string(number);
  for (int64_t at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string Megabytes(int64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << static_cast<double>(bytes) / 1e6 << " MB";
  return out.str();
}

}  // namespace

bool IsSource(const LayerParameter& layer) {
  static const std::set<std::string> kSources = {
      "AnnotatedData", "CPMData",      "Data",       "DenseImageData", "HDF5Data",
      "ImageData",     "ImageSegData", "MemoryData", "VideoData",      "WindowData"};
  return kSources.count(layer.type()) > 0 || (layer.type() == "Python" && layer.bottom_size() == 0);
}

NetParameter ReplaceSources(const NetParameter& spec, const Shape& image,
                            const std::map<std::string, Shape>& tops) {
  Require(image.size() == 4, "an image blob of shape ", ToString(image),
          " was asked for where N,C,H,W was expected.");
  NetParameter replaced = spec;
  for (LayerParameter& layer : *replaced.mutable_layer()) {
    if (IsSource(layer)) layer = InputLike(layer, image, tops);
  }
  return replaced;
}

int64_t SourceBatch(const LayerParameter& source) {
  const int64_t batch = source.has_image_data_param()    ? source.image_data_param().batch_size()
                        : source.has_hdf5_data_param()   ? source.hdf5_data_param().batch_size()
                        : source.has_memory_data_param() ? source.memory_data_param().batch_size()
                                                         : source.data_param().batch_size();
  Require(batch > 0, "layer '", source.name(), "' (", source.type(), "): it has no batch_size");
  return batch;
}

std::vector<std::string> MissingTypes(const NetParameter& spec) {
  std::set<std::string> missing;
  for (const LayerParameter& layer : spec.layer()) missing.insert(layer.type());
  for (const LayerType* type : LayerTypes()) missing.erase(type->name);
  return {missing.begin(), missing.end()};
}

std::vector<LayerSummary> SummaryOf(const Net& net) {
  std::vector<LayerSummary> all;
  std::set<const Param*> counted;
  for (const Net::Step& step : net.steps()) {
    if (step.layer->type() == "Reorder") continue;
    LayerSummary summary{step.layer->name(), step.layer->type(), {}, {}, 0, 0};
    for (const Blob* top : step.top) summary.tops.push_back(top->name() + " " + ToString(top->shape()));
    for (const auto& param : step.layer->params()) {
      const bool weight = param->kind == Param::Kind::kWeight;
      const std::string shape = ToString(param->shape);
      summary.params.push_back(weight ? shape : "(" + shape + ")");
      if (weight && counted.insert(param.get()).second) summary.weights += CountOf(param->shape);
    }
    summary.multiply_adds = step.layer->MultiplyAdds(step.bottom, step.top);
    all.push_back(std::move(summary));
  }
  return all;
}

std::string SummaryTable(const Net& net) {
  const std::vector<LayerSummary> all = SummaryOf(net);
  std::vector<std::vector<std::string>> rows = {
      {"layer", "type", "tops", "weights (statistics)", "values", "multiply-adds"}};
  int64_t weights = 0, multiply_adds = 0;
  for (const LayerSummary& layer : all) {
    rows.push_back({layer.name, layer.type, Join(layer.tops, ", "), Join(layer.params, " "),
                    Grouped(layer.weights), Grouped(layer.multiply_adds)});
    weights += layer.weights;
    multiply_adds += layer.multiply_adds;
  }
  rows.push_back({"total", "", "", "", Grouped(weights), Grouped(multiply_adds)});
  std::vector<size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::ostringstream out;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const bool number = i >= 4;
      out << (i == 0 ? "" : "  ") << (number ? std::right : std::left)
          << std::setw(static_cast<int>(widths[i])) << row[i];
    }
    out << "\n";
  }
  const MemoryPlan& plan = net.plan();
  out << "memory: " << Megabytes(plan.planned) << " for blobs (" << Megabytes(plan.unplanned)
      << " if none were shared), " << Megabytes(plan.params) << " for parameters, "
      << Megabytes(plan.param_grads) << " for their gradients\n";
  return out.str();
}

}  // namespace crema
