// What influence_module.cpp adds to the module.
#pragma once
#include <nanobind/nanobind.h>

void add_influence(nanobind::module_& module);
