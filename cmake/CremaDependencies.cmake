# What Crema is built on; all of it from Debian's packages (tools/setup.sh installs them).
find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
find_package(ZLIB REQUIRED)
pkg_check_modules(GLOG REQUIRED IMPORTED_TARGET libglog)
pkg_check_modules(GFLAGS REQUIRED IMPORTED_TARGET gflags)
pkg_check_modules(LMDB REQUIRED IMPORTED_TARGET lmdb)
pkg_check_modules(HDF5 REQUIRED IMPORTED_TARGET hdf5)
pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
# oneDNN's own CMake file asks for OpenCL's headers, which no CPU program needs.
find_path(DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.hpp REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
add_library(DNNL::dnnl SHARED IMPORTED)
set_target_properties(DNNL::dnnl PROPERTIES IMPORTED_LOCATION ${DNNL_LIBRARY}
                                            INTERFACE_INCLUDE_DIRECTORIES ${DNNL_INCLUDE_DIR})
# Debian ships OpenCV's CMake files in libopencv-dev, which pulls in 134 packages; the three parts need none of them.
find_package(OpenCV QUIET COMPONENTS core imgproc imgcodecs)
if(NOT OpenCV_FOUND)
  find_path(OPENCV_INCLUDE_DIR opencv2/imgcodecs.hpp PATH_SUFFIXES opencv4 REQUIRED)
  foreach(part core imgproc imgcodecs)
    find_library(OPENCV_${part}_LIBRARY opencv_${part} REQUIRED)
    add_library(opencv_${part} SHARED IMPORTED)
    set_target_properties(opencv_${part} PROPERTIES IMPORTED_LOCATION ${OPENCV_${part}_LIBRARY}
                                                    INTERFACE_INCLUDE_DIRECTORIES ${OPENCV_INCLUDE_DIR})
  endforeach()
endif()
if(CREMA_OPENMP)
  find_package(OpenMP REQUIRED COMPONENTS CXX)
endif()

# The public headers need protobuf alone.
set(CREMA_PUBLIC_DEPENDENCIES protobuf::libprotobuf)
set(CREMA_PRIVATE_DEPENDENCIES
    $<BUILD_INTERFACE:PkgConfig::GLOG> $<BUILD_INTERFACE:PkgConfig::GFLAGS> $<BUILD_INTERFACE:PkgConfig::LMDB>
    $<BUILD_INTERFACE:PkgConfig::HDF5>
    $<BUILD_INTERFACE:PkgConfig::OPENBLAS> $<BUILD_INTERFACE:DNNL::dnnl> $<BUILD_INTERFACE:MPI::MPI_C>
    $<BUILD_INTERFACE:ZLIB::ZLIB>
    $<BUILD_INTERFACE:opencv_core> $<BUILD_INTERFACE:opencv_imgproc> $<BUILD_INTERFACE:opencv_imgcodecs>
    $<BUILD_INTERFACE:Threads::Threads>)
