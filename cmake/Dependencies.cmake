# Debian 12's packages, given target names where they bring none; and CUDA, which is optional.
find_package(nlohmann_json REQUIRED)

find_path(DNNL_INCLUDE dnnl.h REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
add_library(dnnl::dnnl INTERFACE IMPORTED)
target_include_directories(dnnl::dnnl SYSTEM INTERFACE ${DNNL_INCLUDE})
target_link_libraries(dnnl::dnnl INTERFACE ${DNNL_LIBRARY})

find_path(UTF8PROC_INCLUDE utf8proc.h REQUIRED)
find_library(UTF8PROC_LIBRARY utf8proc REQUIRED)
add_library(utf8proc::utf8proc INTERFACE IMPORTED)
target_include_directories(utf8proc::utf8proc SYSTEM INTERFACE ${UTF8PROC_INCLUDE})
target_link_libraries(utf8proc::utf8proc INTERFACE ${UTF8PROC_LIBRARY})

find_path(STB_INCLUDE stb_image.h PATH_SUFFIXES stb REQUIRED)
add_library(stb::stb INTERFACE IMPORTED)
target_include_directories(stb::stb SYSTEM INTERFACE ${STB_INCLUDE})

find_path(CLI11_INCLUDE CLI/CLI.hpp REQUIRED)
add_library(CLI11::CLI11 INTERFACE IMPORTED)
target_include_directories(CLI11::CLI11 SYSTEM INTERFACE ${CLI11_INCLUDE})

find_path(TOMLPLUSPLUS_INCLUDE toml++/toml.h REQUIRED)
add_library(tomlplusplus::tomlplusplus INTERFACE IMPORTED)
target_include_directories(tomlplusplus::tomlplusplus SYSTEM INTERFACE ${TOMLPLUSPLUS_INCLUDE})
find_library(TOMLPLUSPLUS_LIBRARY tomlplusplus)
if(TOMLPLUSPLUS_LIBRARY)  # compiled once by the distribution; else its parser is compiled here
  target_compile_definitions(tomlplusplus::tomlplusplus INTERFACE TOML_HEADER_ONLY=0)
  target_link_libraries(tomlplusplus::tomlplusplus INTERFACE ${TOMLPLUSPLUS_LIBRARY})
endif()

include(cmake/Cuda.cmake)
