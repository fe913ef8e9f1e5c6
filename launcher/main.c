#include <stdio.h>
int main(void) {
    puts("marrs_dist " MARRS_VERSION);
    return 0;
}
