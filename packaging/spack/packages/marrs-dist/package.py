"""Spack recipe. spack repo add packaging/spack; then, where build/marrs_dist-VERSION.tar.gz of `make dist` lies:
spack install --test=root marrs-dist"""

import os

from spack.package import *


class MarrsDist(MakefilePackage):
    """Semi-supervised domain adaptation of image classifiers, distributed over MPI ranks: peers co-trained on groups
    of ranks, then distilled into one student."""

    license("BSD-3-Clause")

    # `make dist` writes it; the checksum is of an archive that each site makes, so none is fixed here.
    url = "file://{0}/build/marrs_dist-0.1.0.tar.gz".format(os.getcwd())

    version("0.1.0", no_cache=True)

    variant("webp", default=True, description="read WebP images")

    depends_on("c", type="build")
    depends_on("gmake", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("mpi@3.1:")
    depends_on("hdf5@1.10: ~mpi +threadsafe")
    depends_on("libyaml")
    depends_on("jansson")
    depends_on("libjpeg-turbo")
    depends_on("libpng")
    depends_on("libwebp", when="+webp")
    depends_on("hwloc@2:")
    depends_on("xxhash@0.8:")
    depends_on("openblas threads=openmp +lapacke")
    depends_on("onednn@2.6:")
    depends_on("random123")

    conflicts("%gcc@:9", msg="C17 and -march=x86-64-v4 are needed")

    def edit(self, spec, prefix):
        pass  # everything is given on make's command line

    @property
    def make_arguments(self):
        return [
            "DEPS=no",
            "PREFIX={0}".format(self.prefix),
            "MPICC={0}".format(self.spec["mpi"].mpicc),
            "ONEDNN_HOME={0}".format(self.spec["onednn"].prefix),
        ]

    def build(self, spec, prefix):
        make("all", *self.make_arguments)

    def install(self, spec, prefix):
        make("install", *self.make_arguments)

    def check(self):
        make("check", "search=launcher/command_line", *self.make_arguments)

    def test_default(self):
        """the embedded default configuration and its data are found and sound"""
        program = which(self.prefix.bin.marrs_dist)
        program("config")
        program("inspect", join_path(self.prefix.share.marrs_dist.data.digits, "pen-000.h5"))
