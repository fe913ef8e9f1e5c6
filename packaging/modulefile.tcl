#%Module1.0
# Environment Modules: module use PREFIX/share/modulefiles; module load marrs_dist
proc ModulesHelp { } {
    puts stderr "Semi-supervised domain adaptation of image classifiers over MPI ranks."
    puts stderr "marrs_dist --help, man marrs_dist, man marrs_dist-tutorial. Configurations: share/marrs_dist/configs"
}
module-whatis "marrs_dist @VERSION@: peers co-trained on groups of MPI ranks, distilled into one student"
conflict marrs_dist

# The folder of this file tells where it was installed, so that everything may be moved together; else PREFIX.
set prefix "@PREFIX@"
regexp {^(.*)/share/modulefiles/marrs_dist/} $ModulesCurrentModulefile whole prefix
prepend-path PATH "$prefix/bin"
prepend-path MANPATH "$prefix/share/man"
