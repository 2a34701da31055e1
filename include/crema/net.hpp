// Floor 4. Net: layers joined by blobs, built from a NetParameter; runs forward and backward. Called by the
// solver, by tools and by embedders.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "crema/layer.hpp"

namespace crema {

struct NetOptions {
  Phase phase = TEST;
  int level = 0;
  std::vector<std::string> stages = {};
  bool backward = false;    // plan memory for gradients
  bool keep_blobs = false;  // every blob keeps its own memory, so that all can be read after Forward
  // Take the params of this net (same names) instead of making new ones: a test net beside a training net.
  class Net* share = nullptr;
  bool dry = false;  // only plan: nothing is allocated or filled, and the net cannot run
};

// What the plan decided, in bytes.
struct MemoryPlan {
  int64_t unplanned = 0;          // data and gradients if nothing were shared
  int64_t planned = 0;            // size of the arena that holds them, and of Input layers' tops
  int64_t arena = 0, inputs = 0;  // of these the two; no arena where that of NetOptions.share is used
  int64_t params = 0, param_grads = 0;
};

class Net {
 public:
  // Filters by phase, level and stage, builds, fills the params from their fillers (keyed by ctx.seed and
  // name) and plans the memory. Throws Error for anything that does not fit, naming the layer.
  Net(const Context& ctx, const NetParameter& spec, const NetOptions& options);
  ~Net();

  const std::string& name() const { return spec_.name(); }
  const NetParameter& spec() const { return spec_; }  // after filtering
  Phase phase() const { return options_.phase; }

  // Sizes of an Input layer's top for the next Forward; the net is planned anew.
  void ReshapeInput(const Context& ctx, const std::string& blob, const Shape& shape);
  // Writes an Input layer's top, given in Caffe's order, as the net's type; `values` has count() elements.
  // They stay until they are written again.
  void SetInput(const std::string& blob, const std::vector<float>& values);

  // Runs all layers; returns the loss: the sum of loss_weight times each loss top.
  double Forward(const Context& ctx);
  // The same in two steps, for who has the device do more before the host waits for the loss. The second adds
  // it to `sum`, f64 [1], on the device.
  void RunForward(const Context& ctx);
  void AddLoss(const Context& ctx, Tensor* sum) const;
  // Gradients of the loss of the last Forward; adds to the params' gradients. `done` is called after each
  // layer's Backward with the params whose last contribution is in.
  void Backward(const Context& ctx, const std::function<void(Param&)>& done = nullptr);
  void ZeroParamGrads();

  bool has_blob(const std::string& name) const;
  // The last version of a blob of that name; throws Error where there is none.
  const Blob& blob(const std::string& name) const;
  // Its values in Caffe's order, as floats (labels too).
  std::vector<float> BlobValues(const std::string& name) const;
  std::vector<float> BlobGrads(const std::string& name) const;
  std::vector<std::string> blob_names() const;
  // Tops that no layer takes: what a test pass or a log line reports. In net order.
  struct Output {
    std::string name;
    float loss_weight = 0;
    std::vector<float> values;
  };
  std::vector<Output> outputs() const;

  const std::vector<std::unique_ptr<Layer>>& layers() const { return layers_; }
  Layer* layer(const std::string& name) const;  // null where there is none
  // Each param once, in the order of the first layer that has it.
  const std::vector<Param*>& params() const { return params_; }
  const MemoryPlan& plan() const { return plan_; }
  int64_t batch_size() const;  // samples per pass on this rank: axis 0 of the first blob

  // One executed step; fused layers stand for several of layers().
  struct Step {
    Layer* layer;
    Blobs bottom, top;
    bool backward = false;
  };
  const std::vector<Step>& steps() const { return steps_; }
  // Called around each layer's Forward (true) and Backward (false) when set: profiling, debugging.
  std::function<void(const Step&, bool forward, bool begin)> observer;

  // Caffe's weight loading: by layer name; layers unknown here are ignored and returned; counts and shapes
  // must match. `from` names the file in messages.
  std::vector<std::string> CopyWeights(const NetParameter& weights, const std::string& from);
  // The net with its weights (sharded ones left out), as saved in a .caffemodel.
  NetParameter ToProto() const;

 private:
  struct Value;  // one version of a named blob
  struct Use;    // a step's bottom

  // Building (net.cpp), in this order.
  void AddLayer(const Context& ctx, const LayerParameter& spec);
  Value* FindBottom(const LayerParameter& spec, int index);
  Value* AddTop(const LayerParameter& spec, int index);
  void AddStep(const Context& ctx, Layer* layer, const std::vector<Value*>& bottom,
               const std::vector<Value*>& top);
  // `real`: the type of real numbers; `first_block`: the layout of what is not reordered for its own sake.
  Value* Suited(const Context& ctx, const Layer& layer, Value* value, DType real, int64_t first_block);
  Value* Reordered(const Context& ctx, Value* value, DType dtype, int64_t block);
  void ShareParams(Layer* layer);
  void Fuse(const Context& ctx);
  size_t OnlyReader(size_t step) const;
  void FuseBatchNorm(const Context& ctx, size_t first, std::vector<bool>* gone);
  void FuseHead(const Context& ctx, size_t first, std::vector<bool>* gone);
  void MergeSteps(const Context& ctx, const std::vector<size_t>& chain, std::unique_ptr<Layer> layer,
                  std::vector<bool>* gone);
  void DropSteps(const std::vector<bool>& gone);
  void MarkGradients();
  void AllocateParams(const Context& ctx);
  // Memory (net_memory.cpp).
  void InferShapes(const Context& ctx);
  void MarkRecomputed();
  void PlanMemory(const Context& ctx);
  // Running (net_run.cpp).
  void FollowShapes(const Context& ctx, size_t step);
  void AccumulateFanOut(const Context& ctx, size_t step);
  Value& value(const std::string& name) const;

  NetParameter spec_;
  NetOptions options_;
  std::vector<std::unique_ptr<Layer>> layers_;       // as in the prototxt
  std::vector<std::unique_ptr<Layer>> made_layers_;  // reorders and fused layers
  std::vector<Step> steps_;
  std::vector<std::unique_ptr<Value>> values_;
  std::map<std::string, Value*> last_version_;
  std::map<std::tuple<const Value*, DType, int64_t>, Value*> reordered_;
  std::map<const Blob*, Value*> value_of_;  // of tops and bottoms
  std::map<std::string, std::shared_ptr<Param>> named_params_;
  std::vector<Param*> params_;
  std::map<const Param*, size_t> last_contribution_;  // step whose Backward completes a param's gradient
  MemoryPlan plan_;
  std::shared_ptr<void> arena_;
  int64_t arena_bytes_ = 0;
};

}  // namespace crema
