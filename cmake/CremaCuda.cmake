# The build with CUDA: the language, the libraries and which files nvcc compiles.

# Before enable_language, which would ask a GPU or take an architecture that the toolkit no longer knows.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "75;80;86;89;90;100;120" CACHE STRING "Compute capabilities to build kernels for")
endif()
enable_language(CUDA)
# CUDA takes the standard from CXX; CMake 3.25 does not know how nvcc spells it.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
if(CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()

find_package(CUDAToolkit REQUIRED)
find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
find_library(CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR} REQUIRED)
add_library(CUDNN::cudnn SHARED IMPORTED)
set_target_properties(CUDNN::cudnn PROPERTIES IMPORTED_LOCATION ${CUDNN_LIBRARY}
                                              INTERFACE_INCLUDE_DIRECTORIES ${CUDNN_INCLUDE_DIR})
find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR} REQUIRED)
add_library(NCCL::nccl SHARED IMPORTED)
set_target_properties(NCCL::nccl PROPERTIES IMPORTED_LOCATION ${NCCL_LIBRARY}
                                            INTERFACE_INCLUDE_DIRECTORIES ${NCCL_INCLUDE_DIR})
list(APPEND CREMA_PRIVATE_DEPENDENCIES $<BUILD_INTERFACE:CUDA::cudart> $<BUILD_INTERFACE:CUDA::cublas>
     $<BUILD_INTERFACE:CUDNN::cudnn> $<BUILD_INTERFACE:NCCL::nccl>)

# Makes nvcc compile those of the files that launch kernels: they include the launchers, or a header that uses them.
# A file that is missed here does not build (see CompiledForGpu in crema/parallel.hpp).
function(crema_compile_kernels)
  foreach(source ${ARGN})
    file(STRINGS ${source} found
         REGEX "^#include \"(crema/parallel|net/axis_part|net/class_scores|net/elementwise|net/own_score|solver/update_kernels).hpp\"")
    if(found)
      set_source_files_properties(${source} PROPERTIES LANGUAGE CUDA)
    endif()
  endforeach()
endfunction()
