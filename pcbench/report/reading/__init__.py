"""What a report is made from: runs read and their records as entries."""
