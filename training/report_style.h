/* The style sheet of a report's page. */
#ifndef TRAINING_REPORT_STYLE_H
#define TRAINING_REPORT_STYLE_H

extern const char report_style[];

#endif
