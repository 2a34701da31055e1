// Floor 4. What layers that read images from a data set share. Called by the data layers.
#pragma once

#include <functional>
#include <memory>

#include "crema/data.hpp"
#include "crema/layer.hpp"

namespace crema {

// Samples of a pass: of the ranks before this one, of all.
struct BatchShare {
  int64_t offset = 0, global = 0;
};
// Where this rank has so many. Collective: the ranks tell each other theirs.
BatchShare ShareOfBatch(const Context& ctx, int64_t batch);

// Tops: images [B, C, H, W], in planes or channels last, and, where there is a second one, labels (i64) [B].
// Which samples they are depends on ctx.pass, ctx.seed and the rank alone.
class DataLayer : public Layer {
 public:
  using Layer::Layer;
  ~DataLayer() override;
  Arity arity() const override { return {0, 0, 1, 2}; }
  bool IsSource() const override { return true; }
  int64_t records() const { return plan_.dataset->size(); }  // after Reshape
  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override;
  Workspace WorkspaceFor(const Context&, const Blobs&, const Blobs& top) const override {
    return {.kept = {{"batches made ahead", BatchBytes(top[0]->shape(), plan_.prefetch)}}};
  }
  // Of the batches [B, C, H, W] made ahead and the one in use.
  static int64_t BatchBytes(const Shape& images, int64_t prefetch);

 protected:
  struct Plan {
    std::shared_ptr<const Dataset> dataset;
    TransformationParameter transform;
    int64_t batch = 0, rand_skip = 0, prefetch = 1, threads = 0;
    bool shuffle = false, skip_bad_records = false;
  };
  // What the layer's parameters say. Errors need not name the layer.
  virtual Plan Open() const = 0;

  // transform_param, with scale, mean_file, crop_size and mirror of the older place in the layer's own
  // message where transform_param does not have them.
  template <class Message>
  TransformationParameter TransformOf(const Message& older) const {
    TransformationParameter transform = spec().transform_param();
    if (older.has_scale() && !transform.has_scale()) transform.set_scale(older.scale());
    if (older.has_mirror() && !transform.has_mirror()) transform.set_mirror(older.mirror());
    if (older.has_crop_size() && !transform.has_crop_size()) transform.set_crop_size(older.crop_size());
    if (older.has_mean_file() && !transform.has_mean_file() && transform.mean_value_size() == 0)
      transform.set_mean_file(older.mean_file());
    return transform;
  }

 private:
  SourceOptions OptionsOf(const Context& ctx) const;
  void NamingThis(
      const std::function<void()>& body) const;  // an Error of `body`, with the layer's name before it

  struct Ahead;
  void TakeFromAhead(const Context& ctx, const Blobs& top);
  void Fetch(int64_t pass);

  Plan plan_;
  std::unique_ptr<Source> source_;
  std::shared_ptr<Ahead> ahead_;  // null where the device has no uploads
};

}  // namespace crema
