// MemoryData: images and labels that the program hands over (include/crema/memory_data.hpp), each pass the
// next batch.
#include "crema/memory_data.hpp"

#include "crema/layer.hpp"
#include "net/host_values.hpp"

namespace crema {
namespace {

struct MemoryData final : Layer, MemoryDataFeed {
  using Layer::Layer;
  Arity arity() const override { return {0, 0, 1, 2}; }
  bool IsSource() const override { return true; }

  void Reshape(const Context& ctx, const Blobs&, const Blobs& top) override {
    const MemoryDataParameter& options = spec().memory_data_param();
    Check(batch() > 0 && size().count() > 0, "memory_data_param has batch_size ", batch(), " and images of ",
          ToString(size()), "; four numbers above 0 were expected");
    augment_ = std::make_unique<Augment>(spec().transform_param(), phase(), ctx.seed, size(), true);
    const ImageSize& out = augment_->out_size();
    top[0]->Reshape(ctx.real, {int64_t{options.batch_size()}, out.channels, out.height, out.width});
    if (top.size() > 1) top[1]->Reshape(DType::kI64, {batch()});
  }

  void Reset(std::vector<Image> images) override {
    Check(!images.empty() && static_cast<int64_t>(images.size()) % batch() == 0, "it was given ",
          images.size(), " images; a multiple of its batch_size ", batch(), " was expected");
    for (const Image& image : images)
      Check(image.size == size(), "it was given an image of ", ToString(image.size), "; ", ToString(size()),
            " was expected");
    images_ = std::move(images);
  }

  void Forward(const Context& ctx, const Blobs&, const Blobs& top) override {
    Check(!images_.empty(), "it has no data; hand it over first: MemoryDataFeed::Reset");
    const int64_t count = augment_->out_size().count();
    std::vector<float> values(static_cast<size_t>(batch() * count));
    std::vector<int64_t> labels;
    for (int64_t i = 0; i < batch(); ++i) {
      const int64_t position = ctx.pass * batch() + i;
      Image image = images_[static_cast<size_t>(position % static_cast<int64_t>(images_.size()))];
      labels.push_back(image.label);
      (*augment_)(position, &image, values.data() + i * count);
    }
    WriteFloats(values, &top[0]->data());
    if (top.size() > 1) top[1]->data().FromHost(labels);
  }

 private:
  int64_t batch() const { return spec().memory_data_param().batch_size(); }
  ImageSize size() const {
    const MemoryDataParameter& options = spec().memory_data_param();
    return {options.channels(), options.height(), options.width()};
  }

  std::unique_ptr<Augment> augment_;
  std::vector<Image> images_;
};

CREMA_REGISTER_LAYER(MemoryData, "memory_data_param", "transform_param");

}  // namespace
}  // namespace crema
