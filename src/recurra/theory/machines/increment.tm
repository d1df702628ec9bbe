about: adds one to a binary number
start: right
halt: done
tape: 1011

right 0 0 R right   ; to the number's end
right 1 1 R right
right _ _ L carry
carry 1 0 L carry   ; 1 + 1 = 10: write 0, carry 1
carry 0 1 S done
carry _ 1 S done
