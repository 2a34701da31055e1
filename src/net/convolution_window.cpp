#include "net/convolution_window.hpp"

namespace crema {

namespace {

// One of the sizes of a window along both axes.
struct BothSizes {
  int64_t h, w;
};

template <class List>
BothSizes Pick(const std::string& who, const char* name, const List& list, bool has_h, uint32_t h, bool has_w,
               uint32_t w, int64_t otherwise) {
  Require(list.size() <= 2, who, name, " has ", list.size(),
          " values; expected one, or one for each of height and width");
  Require((!has_h && !has_w) || list.empty(), who, name, " is given both with and without _h, _w");
  const auto at = [&](int axis) -> int64_t {
    return list.empty() ? otherwise : int64_t{list[list.size() == 2 ? axis : 0]};
  };
  return {has_h ? int64_t{h} : at(0), has_w ? int64_t{w} : at(1)};
}

}  // namespace

ConvolutionSpec ConvolutionWindow(const Layer& layer, const Blob& x) {
  const ConvolutionParameter& o = layer.spec().convolution_param();
  const std::string who = Concat("layer '", layer.name(), "' (", layer.type(), "): ");
  Require(x.axes() == 4, who, "bottom '", x.name(), "' of shape ", ToString(x.shape()),
          " found where N x C x H x W was expected");
  Require(o.axis() == 1 || o.axis() == -3, who, "axis is ", o.axis(), "; expected 1");
  const BothSizes kernel = Pick(who, "kernel_size", o.kernel_size(), o.has_kernel_h(), o.kernel_h(),
                                o.has_kernel_w(), o.kernel_w(), 0);
  const BothSizes stride =
      Pick(who, "stride", o.stride(), o.has_stride_h(), o.stride_h(), o.has_stride_w(), o.stride_w(), 1);
  const BothSizes pad = Pick(who, "pad", o.pad(), o.has_pad_h(), o.pad_h(), o.has_pad_w(), o.pad_w(), 0);
  const BothSizes dilation = Pick(who, "dilation", o.dilation(), false, 0, false, 0, 1);
  Require(kernel.h > 0 && kernel.w > 0, who, "kernel_size is missing or 0");
  Require(stride.h > 0 && stride.w > 0 && dilation.h > 0 && dilation.w > 0, who,
          "stride and dilation must be at least 1");
  ConvolutionSpec window;
  window.kernel_h = kernel.h, window.kernel_w = kernel.w;
  window.stride_h = stride.h, window.stride_w = stride.w;
  window.pad_h = pad.h, window.pad_w = pad.w;
  window.dilation_h = dilation.h, window.dilation_w = dilation.w;
  return window;
}

}  // namespace crema
