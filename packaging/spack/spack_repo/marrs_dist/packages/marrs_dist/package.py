import os

from spack_repo.builtin.build_systems.makefile import MakefilePackage

from spack.package import *


class MarrsDist(MakefilePackage):
    """Semi-supervised domain adaptation of image classifiers, distributed over MPI ranks: peers co-trained on groups
    of ranks, then distilled into one student."""

    # Called in the source folder after `make dist`; the archive is each site's own, so no checksum is fixed here.
    url = "file://{0}/build/marrs_dist-0.1.0.tar.gz".format(os.getcwd())

    license("BSD-3-Clause")

    version("0.1.0")

    variant("webp", default=True, description="Read WebP images")

    depends_on("c", type="build")
    depends_on("gmake", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("mpi@3.1:")
    depends_on("hdf5@1.10: ~mpi+threadsafe")
    depends_on("libyaml")
    depends_on("jansson")
    depends_on("libjpeg-turbo")
    depends_on("libpng")
    depends_on("libwebp", when="+webp")
    depends_on("hwloc@2:")
    depends_on("xxhash@0.8:")
    depends_on("openblas threads=openmp")
    depends_on("onednn@2.7: cpu_runtime=omp")
    depends_on("random123", type="build")

    conflicts("%gcc@:9", msg="C17 and x86-64-v4 are needed")

    def edit(self, spec, prefix):
        pass  # everything is said on make's command line

    @property
    def said_to_make(self):
        return [
            "DEPS=no",
            "PREFIX={0}".format(self.prefix),
            "MPICC={0}".format(self.spec["mpi"].mpicc),
            "ONEDNN_HOME={0}".format(self.spec["onednn"].prefix),
        ]

    def build(self, spec, prefix):
        make("all", *self.said_to_make)

    def install(self, spec, prefix):
        make("install", *self.said_to_make)

    def test_default(self):
        """the default configuration and its data are there and sound"""
        program = which(self.prefix.bin.marrs_dist)
        program("config")
        program("inspect", join_path(self.prefix.share.marrs_dist.data.digits, "pen-000.h5"))
