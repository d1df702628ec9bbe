// What stream_module.cpp adds to the module.
#pragma once
#include <nanobind/nanobind.h>

void add_stream(nanobind::module_& module);
