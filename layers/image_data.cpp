// ImageData: images and labels of a list file, in order or shuffled, each pass the next batch.
#include "net/data_layer.hpp"

namespace crema {
namespace {

struct ImageData final : DataLayer {
  using DataLayer::DataLayer;

  Plan Open() const override {
    const ImageDataParameter& param = spec().image_data_param();
    Require(!param.source().empty(), "image_data_param has no source");
    Plan plan;
    plan.transform = TransformOf(param);
    Require(!plan.transform.force_color() || !plan.transform.force_gray(),
            "force_color and force_gray are both set; expected one of them");
    const bool color = plan.transform.force_color() || (param.is_color() && !plan.transform.force_gray());
    ImageListOptions options;
    options.root = param.root_folder();
    options.height = param.new_height();
    options.width = param.new_width();
    options.color = color ? Color::kColor : Color::kGray;
    plan.dataset = OpenImageList(param.source(), options);
    plan.batch = param.batch_size();
    plan.rand_skip = param.rand_skip();
    plan.prefetch = param.prefetch();
    plan.threads = param.threads();
    plan.shuffle = param.shuffle();
    plan.skip_bad_records = param.skip_bad_records();
    return plan;
  }
};

CREMA_REGISTER_LAYER(ImageData, "image_data_param", "transform_param");

}  // namespace
}  // namespace crema
